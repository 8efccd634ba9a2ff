"""What URLs of locks say, and what they never show."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from forkful.errors import EngineUnavailable
from forkful.locks import Lock, Semaphore
from forkful.locks._place import find_place, mask
from forkful.locks._url import split_postgres, split_redis


@pytest.mark.parametrize(
    ("url", "client", "server", "name", "lease"),
    [
        ("redis://host/stock", "redis://host/0", "host:6379", "stock", 30),
        ("redis://host:1234/2/stock", "redis://host:1234/2", "host:1234", "stock", 30),
        ("redis://u:p%40@[::1]/stock", "redis://u:p%40@[::1]/0", "[::1]:6379", "stock", 30),
        ("rediss://host/a%2Fb?lease=2.5&ssl_ca_certs=x", "rediss://host/0?ssl_ca_certs=x", "host:6379", "a/b", 2.5),
        ("redis:///stock", "redis:///0", "localhost:6379", "stock", 30),
        ("redis://host/0/7", "redis://host/0", "host:6379", "7", 30),
        ("unix:///run/redis.sock?lock=stock&db=3", "unix:///run/redis.sock?db=3", "unix:/run/redis.sock", "stock", 30),
    ],
)
def test_redis(url: str, client: str, server: str, name: str, lease: float) -> None:
    assert split_redis(url) == (client, server, name, lease)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://host", "no name"),
        ("redis://host/", "no name"),
        ("redis://host/2", "a number alone is a database's"),
        ("redis://host/2/", "no name"),
        ("redis://host/a/b", "number of a database"),
        ("redis://host/stock?lease=no", "lease is a number of seconds"),
        ("redis://host/stock?lease=0", "lease is a number of seconds"),
        ("redis://host/stock?lease=nan", "lease is a number of seconds"),
        ("redis://host/?lock=stock", "redis://HOST/stock"),
        ("redis://host:port/stock", "%3A"),
        ("redis://:sec/ret@host/stock", "%2F"),
        ("redis://host:0/stock", "port"),
        ("redis://host/stock?lease=1e20", "lease is a number of seconds"),
        ("redis://host/%ff", "UTF-8"),
        ("redis://host/a\ud800", "UTF-8"),
        ("redis://host/a%00", "null character"),
        (f"redis://{'a' * 70}/stock", "host"),
        ("unix:///run/redis.sock", "lock=NAME"),
    ],
)
def test_redis_says_what_is_wrong(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        split_redis(url)
    assert "ret" not in str(caught.value)


def test_postgres() -> None:
    assert split_postgres("postgresql://u@h:1/db?lock=a%20b") == ("postgresql://u@h:1/db", "a b")
    assert split_postgres("postgres:///db?sslmode=require&lock=a&port=5")[0] == "postgres:///db?sslmode=require&port=5"
    for url in ("postgresql://host/db", "postgresql://host/db?lock=", "postgresql://host/db?sslmode=require"):
        with pytest.raises(ValueError, match=r"write postgresql://HOST/DB\?lock=NAME"):
            split_postgres(url)


@pytest.mark.parametrize(("name", "message"), [("%ff", "UTF-8"), ("a\ud800", "UTF-8"), ("a%00b", "null character")])
def test_names_that_no_server_can_have(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_postgres(f"postgresql://host/db?lock={name}")


@pytest.mark.parametrize("option", ["foo=bar", "protocol=7", "socket_timeout=abc", "single_connection_client=1"])
def test_redis_asks_its_library(option: str) -> None:
    pytest.importorskip("redis")
    with pytest.raises(ValueError, match="redis-py") as caught:
        Lock(f"redis://:secret@host/stock?{option}")
    assert "secret" not in str(caught.value)


def test_servers_are_named_as_in_urls() -> None:
    pytest.importorskip("psycopg", exc_type=ImportError)
    from forkful.locks._session import Database

    assert Database({"host": "h1,::1", "port": ""}).server() == "h1:5432, [::1]:5432"
    assert Database({"host": "h1,h2", "port": "1,2"}).server() == "h1:1, h2:2"


def test_postgres_asks_libpq() -> None:
    pytest.importorskip("psycopg", exc_type=ImportError)
    with pytest.raises(ValueError, match="colour"):
        Lock("postgresql://host/db?lock=a&colour=blue")
    with pytest.raises(ValueError, match="connect_timeout"):
        Lock("postgresql://host/db?lock=a&connect_timeout=soon")
    with pytest.raises(ValueError, match="libpq") as caught:
        Lock("postgresql://user:secret%zz@host/db?lock=a")
    assert "zz" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/mail@home", None),
        ("redis://[::1]:6379/mail@home", None),
        ("redis://user@host/name", None),
        ("postgresql://one:1,two:2/db?lock=a@b", None),
        ("redis://user:secret@host:1/name", "redis://user:***@host:1/name"),
        ("redis://:sec/ret@host/name", "redis://:***@host/name"),
        ("redis://:sec@ret@host/name", "redis://:***@host/name"),
        ("postgresql://u:sec,ret@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:sec#ret@host/db", "postgresql://u:***@host/db"),
        ("postgresql://h/db?password=secret&lock=a", "postgresql://h/db?password=***&lock=a"),
        ("postgresql://h/db?lock=a&sslpassword=secret", "postgresql://h/db?lock=a&sslpassword=***"),
    ],
)
def test_passwords_are_masked(url: str, shown: str | None) -> None:
    assert mask(url) == (shown or url)


def test_nothing_shows_the_password() -> None:
    pytest.importorskip("redis")
    lock = Lock("redis://user:secret@host/stock")
    place = find_place("redis://user:secret@host/stock")
    assert lock.name == "redis://user:***@host/stock"
    for text in (repr(lock), repr(place), str(place), place.describe()):
        assert "secret" not in text
        assert "user:***@host/stock" in text
    assert pickle.loads(pickle.dumps(lock)) == lock  # by the whole URL


@pytest.mark.parametrize("url", ["redis://u:secret@host/a", "postgresql://u:secret@host/db?lock=a"])
def test_a_semaphore_does_not_show_it_either(url: str) -> None:
    with pytest.raises(ValueError, match="a semaphore has a name") as caught:
        Semaphore(2, url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [("redis://host/a", "redis", "forkful[redis]"), ("postgresql://h/d?lock=a", "psycopg", "forkful[postgresql]")],
)
def test_missing_library(monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str) -> None:
    for name in [name for name in sys.modules if name in ("forkful.locks._redis", "forkful.locks._postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineUnavailable) as caught:
        Lock(url)
    assert f'pip install "{extra}"' in str(caught.value)


def test_no_engine_is_imported_for_a_file() -> None:
    program = "import sys; from forkful.locks import Lock; Lock('x'); print({'redis', 'psycopg'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"
