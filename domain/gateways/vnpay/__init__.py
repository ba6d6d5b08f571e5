"""VNPay: its client, and the fields and signatures of its messages."""
