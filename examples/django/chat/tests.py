# chat/tests.py
from django.contrib.auth.models import User
from django.test import Client, TestCase

from chansock import testing
from chansock.testing import World
from chat.channel import chsk


class ChatTests(TestCase):
    def come(self, world: World, name: str) -> tuple[Client, testing.WorldClient]:
        """Sign somebody up, and connect with the cookies and the token of that browser."""
        browser = self.client_class()
        browser.force_login(User.objects.create_user(name))
        browser.get("/")  # the page sets the cookie with the token
        cookies = {name: morsel.value for name, morsel in browser.cookies.items()}
        client = world.connect(
            headers={"Host": "testserver"}, cookies=cookies, csrf_token=cookies["csrftoken"]
        )
        return browser, client

    def test_two_users_chat_on_either_transport(self) -> None:
        transports: list[testing.Transport] = ["ws", "ajax"]
        for transport in transports:
            with self.subTest(transport), World(chsk, transport=transport) as world:
                _, ada = self.come(world, f"ada by {transport}")
                _, bob = self.come(world, f"bob by {transport}")
                reply = ada.send("chat/say", {"text": "hello"}, timeout=5)
                assert reply == {"readers": 2}
                said = {"from": f"ada by {transport}", "text": "hello"}
                assert bob.expect("chat/said") == said

    def test_a_view_sends_and_a_logout_closes(self) -> None:
        with World(chsk) as world:
            browser, ada = self.come(world, "ada")
            assert browser.post("/wave/").status_code == 204
            assert ada.expect("chat/waved") == "ada"
            browser.post("/logout/")
            world.turn()
            assert ada.close_code == 4401
