"""The addresses of the `tasksets` app."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
