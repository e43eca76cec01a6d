# chat/views.py
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

import chansock
from chat.channel import chsk


@login_required
def chat(request: HttpRequest) -> HttpResponse:
    return render(request, "chat.html")


@login_required
@require_POST
def wave(request: HttpRequest) -> HttpResponse:
    """Push to everybody from an ordinary, synchronous view."""
    chsk.send(chansock.ALL, "chat/waved", request.user.get_username())
    return HttpResponse(status=204)


def sign_up(request: HttpRequest) -> HttpResponse:
    form: UserCreationForm[User] = UserCreationForm(request.POST or None)
    if form.is_valid():
        login(request, form.save())
        return redirect("/")
    return render(request, "form.html", {"form": form})
