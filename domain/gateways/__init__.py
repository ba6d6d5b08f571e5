"""The gateways: each speaks one provider's protocol, and nothing of it leaves its file.

They know no database. What they return are updates that they verified; `domain.payments` decides
what follows from them.
"""
