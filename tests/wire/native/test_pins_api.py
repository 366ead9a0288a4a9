"""Environments that are to be up: pinned, shown and let go."""


async def test_pins_are_made_shown_changed_and_removed(api):
    await api.put()
    status, made = await api("PUT", "/functions/site/pins/$latest", {"environments": 3})
    assert status == 200
    assert (made["qualifier"], made["environments"], made["up"], made["why"]) == ("$latest", 3, 0, "")
    await api("PUT", "/functions/site/pins/$latest", {"environments": 2})
    (function,) = api.desk.index.functions()
    api.kept[function.latest] = (1, "site could not be loaded; its log says why")
    status, shown = await api("GET", "/functions/site/pins")
    assert status == 200
    (pin,) = shown["pins"]
    assert (pin["environments"], pin["up"], pin["why"]) == (2, 1, "site could not be loaded; its log says why")
    assert (await api("DELETE", "/functions/site/pins/$latest"))[0] == 204
    assert (await api("GET", "/functions/site/pins"))[1] == {"pins": []}


async def test_versions_and_aliases_are_pinned_by_name_and_once(api):
    await api.put()
    await api("POST", "/functions/site/versions")
    await api("PUT", "/functions/site/aliases/live", {"version": 1})
    assert (await api("PUT", "/functions/site/pins/live", {"environments": 1}))[0] == 200
    status, refused = await api("PUT", "/functions/site/pins/1", {"environments": 1})
    assert (status, refused["error"]) == (409, "AlreadyExists")


async def test_what_cannot_be_pinned_is_refused(api):
    await api.put()
    assert (await api("PUT", "/functions/site/pins/7", {"environments": 1}))[0] == 404
    assert (await api("PUT", f"/functions/site/pins/{'9' * 5000}", {"environments": 1}))[0] == 404
    assert (await api("PUT", "/functions/site/pins/none", {"environments": 1}))[0] == 404
    assert (await api("PUT", "/functions/site/pins/$latest", {"environments": 0}))[0] == 400
    assert (await api("PUT", "/functions/site/pins/$latest", {"environments": 950}))[0] == 400
    status, refused = await api("DELETE", "/functions/site/pins/$latest")
    assert status == 404
    assert "pins" in refused["message"]
    assert (await api("GET", "/functions/ghost/pins"))[0] == 404
