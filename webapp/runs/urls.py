"""The addresses of the `runs` app."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
