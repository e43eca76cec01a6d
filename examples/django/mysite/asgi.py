# mysite/asgi.py
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

import chansock.django

application = chansock.django.application("chat.channel.chsk")
