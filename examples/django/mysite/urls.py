# mysite/urls.py
from chat import views
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

urlpatterns = [
    path("", views.chat),
    path("wave/", views.wave),
    path("sign-up/", views.sign_up),
    path("login/", LoginView.as_view(template_name="form.html")),
    path("logout/", LogoutView.as_view()),
]
