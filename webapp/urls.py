"""Every address of the site. Each app has its own; sign-in is here."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from django.views.generic import RedirectView

from webapp.api.api import api_urls
from webapp.sign_in import sign_in_by_link

sign_in = LoginView.as_view(template_name="accounts/sign_in.html", redirect_authenticated_user=True)
urlpatterns = [
    path("", RedirectView.as_view(url="/runs/"), name="home"),
    path("sign-in/", sign_in, name="sign-in"),
    path("sign-in/link/", sign_in_by_link, name="sign-in-link"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("", include("webapp.assessments.urls")),
    path("", include("webapp.evaluations.urls")),
    path("", include("webapp.api.urls")),
    path("", include("webapp.runs.urls")),
    path("", include("webapp.rollouts.urls")),
    path("", include("webapp.sandboxes.urls")),
    path("", include("webapp.tasksets.urls")),
    path("", include("webapp.verifiers.urls")),
    path("", include("webapp.webhooks.urls")),
    path("api/", api_urls),
]
