"""The web app: shows runs, starts them and stops them. It never trains: `trainer` does that.

The trainer is a process of its own, and nothing here imports torch or a container engine.
"""

from webapp.celery import app as celery_app

__all__ = ["celery_app"]
