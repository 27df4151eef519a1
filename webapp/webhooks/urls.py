"""The addresses of the `webhooks` app."""

from django.urls import path

from webapp.webhooks import views

app_name = "webhooks"

urlpatterns = [
    path("settings/webhooks/", views.add_webhook, name="add"),
    path("settings/webhooks/<int:webhook_id>/remove/", views.remove_webhook, name="remove"),
    path("settings/webhooks/<int:webhook_id>/test/", views.test_webhook, name="test"),
    path("settings/deliveries/<uuid:delivery_id>/again/", views.send_again, name="again"),
]
