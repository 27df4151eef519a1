"""Sign-in by a one-time link, which `manage.py studio --demo` prints. Passwords: Django's views."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from sesame.utils import get_query_string, get_user


def one_time_link(user: User, base_url: str) -> str:
    """A link that signs `user` in once, within SESAME_MAX_AGE seconds."""
    return base_url + reverse("sign-in-link") + str(get_query_string(user))


@login_not_required
@never_cache
@require_GET
def sign_in_by_link(request: HttpRequest) -> HttpResponse:
    """Spend the link's token. A used or late one leads to the sign-in page, if one is needed."""
    user = get_user(request)
    if user is not None:
        login(request, user, backend="sesame.backends.ModelBackend")
    elif not request.user.is_authenticated:
        messages.error(request, "This link was used before or is too old. Ask for a new one.")
        return redirect("sign-in")
    return redirect(settings.LOGIN_REDIRECT_URL)
