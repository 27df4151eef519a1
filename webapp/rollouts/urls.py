"""The addresses of the `rollouts` app."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
