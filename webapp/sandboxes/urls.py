"""The addresses of the `sandboxes` app. What they lead to is shown on the workers page."""

from django.urls import path

from webapp.sandboxes import views

app_name = "sandboxes"

urlpatterns = [
    path("sandboxes/look/", views.look, name="look"),
    path("sandboxes/remove-expired/", views.remove_expired, name="remove-expired"),
]
