"""One socket for each listener and slot."""

import socket
from collections.abc import Iterator

import pytest

from tests.lab.waiting import descriptors
from zt_proxy.processes.sockets import Sockets
from zt_proxy.worker.settings import ListenerSettings


def listener(name: str, port: int = 0) -> ListenerSettings:
    return ListenerSettings(name, "127.0.0.1", port, ())


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    made = Sockets()
    yield made
    made.close()


def test_slots_share_an_address_and_have_a_socket_each(sockets: Sockets) -> None:
    sockets.extend([listener("web"), listener("machines")], 3).keep()
    ports = sockets.ports()
    assert set(ports) == {"web", "machines"}
    for slot in range(3):
        assert {key[0]: each.getsockname()[1] for key, each in sockets.row(slot).items()} == ports
    assert len({each.fileno() for slot in range(3) for each in sockets.row(slot).values()}) == 6
    clients = [socket.create_connection(("127.0.0.1", ports["web"])) for _ in range(32)]
    waiting = 0
    for slot in range(3):
        queue = next(each for key, each in sockets.row(slot).items() if key[0] == "web")
        queue.setblocking(False)
        try:
            while True:
                queue.accept()[0].close()
                waiting += 1
        except BlockingIOError:
            pass
    assert waiting == 32
    for client in clients:
        client.close()


def test_what_is_added_is_not_there_until_it_is_kept(sockets: Sockets) -> None:
    sockets.extend([listener("web")], 1).keep()
    before = descriptors()
    addition = sockets.extend([listener("web"), listener("more")], 2)
    assert len(addition.of(0)) == 1
    assert len(addition.of(1)) == 2
    assert set(sockets.ports()) == {"web"}
    addition.undo()
    assert descriptors() == before


def test_a_taken_address_is_named_and_nothing_is_left(sockets: Sockets) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        before = descriptors()
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            sockets.extend([listener("web"), listener("taken", port)], 2)
        assert descriptors() == before


def test_an_address_that_another_proxy_of_this_user_shares_is_taken_too(sockets: Sockets) -> None:
    sockets.extend([listener("web")], 1).keep()
    other = Sockets()
    with pytest.raises(OSError, match="cannot listen on"):
        other.extend([listener("web", sockets.ports()["web"])], 1)


def test_fewer_slots_and_listeners_close_what_is_not_needed(sockets: Sockets) -> None:
    web, more = listener("web"), listener("more")
    sockets.extend([web, more], 3).keep()
    before = descriptors()
    sockets.reduce([web], 2)
    assert descriptors() == before - 4
    assert set(sockets.ports()) == {"web"}
    assert len(sockets.rows) == 2
