"""The addresses of the `verifiers` app."""

from django.urls import path

from webapp.verifiers import views

app_name = "verifiers"

urlpatterns = [
    path("verifiers/", views.verifier_list, name="list"),
    path("verifiers/<uuid:verifier_id>/remove/", views.remove_verifier, name="remove"),
]
