"""The Celery app. Jobs live in each app's `jobs.py`."""

import os
import warnings

from celery import Celery
from celery.exceptions import SecurityWarning

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

# As root, set-up and sandboxes have more to work with; that is the operator's choice.
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("studio")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(related_name="jobs")
