"""Notices about jobs: what they say, the channels that carry them, and their delivery."""

from workbench.notices.delivery import NoticeOutbox, deliver, deliver_async
from workbench.notices.events import event_of_run
from workbench.notices.notice import Event, JobNotice

__all__ = ["Event", "JobNotice", "NoticeOutbox", "deliver", "deliver_async", "event_of_run"]
