"""The addresses of the settings page. Those of the API itself are in `api`."""

from django.urls import path

from webapp.api import views

urlpatterns = [
    path("settings/", views.settings_page, name="settings"),
    path("settings/tokens/", views.make_token, name="make-token"),
    path("settings/tokens/<int:token_id>/revoke/", views.revoke_token, name="revoke-token"),
]
