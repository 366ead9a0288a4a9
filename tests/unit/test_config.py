from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ondol import config
from ondol.config import SettingRefused, load


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_anything_said_the_defaults_hold(tmp_path):
    settings = load(environ={})
    assert settings.listen == "127.0.0.1:7979"
    assert settings.data == tmp_path / ".ondol"
    assert (settings.host, settings.port, settings.url) == ("127.0.0.1", 7979, "http://127.0.0.1:7979")
    assert settings.isolation == "auto"
    assert not settings.open
    assert settings.memory_mib_max >= config.MEMORY_MIB_FLOOR


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(tmp_path):
    (tmp_path / "ondol.toml").write_text('region = "eu-west-1"\nstock_shells = 3\nidle_s_max = 30\n')
    settings = load(
        {"region": "ap-northeast-2", "stock_shells": None},
        environ={"ONDOL_REGION": "sa-east-1", "ONDOL_STOCK_SHELLS": "4"},
    )
    assert settings.region == "ap-northeast-2"
    assert settings.stock_shells == 4
    assert settings.idle_s_max == 30


def test_each_setting_says_where_it_was_read(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("idle_s_max = 5\n")
    settings = load({"region": "eu-west-1"}, environ={"ONDOL_DRAIN_S": "1"}, config=file)
    said = {name: settings.sources[name] for name in ("region", "drain_s", "idle_s_max", "account")}
    assert said == {
        "region": "--region",
        "drain_s": "ONDOL_DRAIN_S",
        "idle_s_max": f"idle_s_max in {file}",
        "account": "default",
    }
    assert set(settings.sources) == {spec.name for spec in config.SPECS}


def test_another_file_is_named_by_the_caller_or_by_a_variable(tmp_path):
    (tmp_path / "a.toml").write_text("stock_shells = 1")
    (tmp_path / "b.toml").write_text("stock_shells = 2")
    environ = {"ONDOL_CONFIG": str(tmp_path / "a.toml")}
    assert load(environ=environ).stock_shells == 1
    assert load(environ=environ, config=tmp_path / "b.toml").stock_shells == 2


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(SettingRefused, match="does not exist"):
        load(environ={}, config=tmp_path / "absent.toml")


@pytest.mark.parametrize("content", ["listen =", "\xff", "[[", "a" * (config.CONFIG_BYTES_MAX + 1)])
def test_a_file_that_is_no_settings_file_is_refused(tmp_path, content):
    (tmp_path / "ondol.toml").write_text(content, encoding="latin-1")
    with pytest.raises(SettingRefused, match=r"ondol\.toml"):
        load(environ={})


@pytest.mark.parametrize(
    ("flags", "environ", "text", "near"),
    [
        ({"memory_max": 1}, {}, "", "memory_mib_max"),
        ({}, {"ONDOL_LISTN": "x"}, "", "ONDOL_LISTEN"),
        ({}, {}, "regoin = 'x'", "region"),
        ({}, {}, "[listen_to]\na = 1", "listen"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_known(tmp_path, flags, environ, text, near):
    (tmp_path / "ondol.toml").write_text(text)
    with pytest.raises(SettingRefused, match=f"unknown .*did you mean {near}\\?"):
        load(flags, environ=environ)


def test_an_unknown_name_like_no_other_points_to_the_list():
    with pytest.raises(SettingRefused, match="unknown environment variable ONDOL_XYZZY: docs/reference/settings.md"):
        load(environ={"ONDOL_XYZZY": "1"})


def test_other_programs_variables_are_none_of_our_business():
    load(environ={"PATH": "/bin", "ONDOLX": "1", "AWS_REGION": "nowhere"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "7979"),
        ("listen", "localhost:"),
        ("listen", "127.0.0.1:65536"),
        ("listen", "127.0.0.1:-1"),
        ("listen", "::1:80"),
        ("listen", 7979),
        ("data", ""),
        ("isolation", "docker"),
        ("open", "maybe"),
        ("open", 1),
        ("account", "12345678901"),
        ("account", "１２３４５６７８９０１２"),
        ("region", "Seoul"),
        ("runtime_substitute", "newest"),
        ("stock_shells", "-1"),
        ("stock_shells", "many"),
        ("stock_shells", 1.5),
        ("stock_shells", True),
        ("idle_s_max", "0"),
        ("memory_mib_max", "10"),
        ("concurrency_max", "0"),
        ("drain_s", "nan"),
        ("drain_s", "-1"),
        ("drain_s", "1e9"),
        ("public_hosts", "http://a.example"),
        ("public_hosts", "*.example.org"),
        ("public_hosts", [1]),
        ("log_level", "loud"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_name_and_what_was_expected(name, value):
    with pytest.raises(SettingRefused, match=rf"--{name.replace('_', '-')}: .* cannot be used: .+"):
        load({name: value}, environ={})


def test_the_refusal_says_where_the_value_stood(tmp_path):
    (tmp_path / "ondol.toml").write_text("idle_s_max = 0")
    with pytest.raises(SettingRefused, match=r"idle_s_max in ondol\.toml: 0 cannot be used"):
        load(environ={})
    with pytest.raises(SettingRefused, match="ONDOL_IDLE_S_MAX: '0' cannot be used"):
        load(environ={"ONDOL_IDLE_S_MAX": "0"})


def test_an_unknown_isolation_is_refused_with_the_levels_there_are():
    with pytest.raises(SettingRefused, match="expected one of auto, process, sandbox, bwrap, crun, gvisor"):
        load({"isolation": "docker"}, environ={})


@pytest.mark.parametrize("listen", ["0.0.0.0:7979", "[::]:7979", "192.0.2.1:80", "example.org:80"])
def test_open_needs_a_loopback_listener(listen):
    with pytest.raises(SettingRefused, match="--open .*loopback"):
        load({"listen": listen, "open": True}, environ={})


@pytest.mark.parametrize("listen", ["127.0.0.1:7979", "[::1]:7979", "localhost:80", "127.1.2.3:0", ":7979"])
def test_open_is_taken_on_loopback(listen):
    assert load({"listen": listen}, environ={"ONDOL_OPEN": "true"}).open


def test_every_front_needs_some_memory():
    assert load({"fronts": "4", "memory_mib_max": "1024"}, environ={}).fronts == 4
    with pytest.raises(SettingRefused, match=r"5 leaves each front 204 of 1024 MiB.*at most 4.*--memory-mib-max"):
        load({"fronts": "5", "memory_mib_max": "1024"}, environ={})


def test_an_address_for_all_interfaces_is_reached_over_loopback():
    assert load({"listen": "0.0.0.0:80"}, environ={}).url == "http://127.0.0.1:80"
    assert load({"listen": "[::]:80"}, environ={}).url == "http://[::1]:80"


def test_host_names_come_as_text_or_as_a_list(tmp_path):
    (tmp_path / "ondol.toml").write_text('public_hosts = ["A.example.org", "b"]')
    assert load(environ={}).public_hosts == ("a.example.org", "b")
    assert load(environ={"ONDOL_PUBLIC_HOSTS": "x.example, y"}).public_hosts == ("x.example", "y")


def test_paths_are_absolute_and_know_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert load({"data": "~/node"}, environ={}).data == Path("/home/ada/node")


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(environ={}).open = True


def test_every_default_can_be_said():
    settings = load(environ={})
    for spec in config.SPECS:
        assert spec.parse(getattr(settings, spec.name)) == getattr(settings, spec.name)
