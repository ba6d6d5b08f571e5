"""The audit log: who did what, when and from where; a chain of hashes proves that none is lost."""

from domain.audit.log import actor_name, record, row

__all__ = ["actor_name", "record", "row"]
