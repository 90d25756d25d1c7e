"""The service as its clients see it: a server process, and HTTP."""

import asyncio
import base64
import io
import json
import socket

import httpx
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.compat


def same(result, expected, topk=3):
    """Whether an answer is the predictor's, up to the last digit of a score."""
    return (
        result["class_ids"] == expected["class_ids"][:topk]
        and result["label_names"] == expected["label_names"][:topk]
        and np.allclose(result["scores"], expected["scores"][:topk], rtol=0, atol=1.1e-5)
    )


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png(width, height) -> bytes:
    """A black image in a small file."""
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


# ---- answers ------------------------------------------------------------------------------------------------------


def test_32_connections_at_once_each_get_the_answers_to_their_own_images(server, photos, expected):
    """Each posts single images and pairs, in both forms; all in the same seconds, through shared batches."""

    async def client(number):
        async with httpx.AsyncClient(base_url=server.url, timeout=120, verify=False) as connection:
            for turn in range(4):
                mine = [photos[(number * 3 + turn) % 64], photos[(number * 7 + turn * 5) % 64]][: 1 + turn % 2]
                if number % 2:
                    response = await connection.post("/predict", files=[("images", file) for file in mine])
                else:
                    images = [{"name": name, "data": in_base64(data)} for name, data in mine]
                    response = await connection.post("/predict", json={"images": images})
                assert response.status_code == 200
                results = response.json()["results"]
                assert [result["file_name"] for result in results] == [name for name, _ in mine]
                assert all(same(result, expected[name]) for result, (name, _) in zip(results, mine))

    async def all_clients():
        await asyncio.gather(*(client(number) for number in range(32)))

    images, batches = server.figure("ppcls_ext_batch_images_sum"), server.figure("ppcls_ext_batch_images_count")
    asyncio.run(all_clients())
    images, batches = (
        server.figure("ppcls_ext_batch_images_sum") - images,
        server.figure("ppcls_ext_batch_images_count") - batches,
    )
    assert images == 32 * (1 + 2 + 1 + 2)
    assert batches < images / 2  # the images of different connections share batches


@pytest.mark.parametrize("form", ["files", "json"])
def test_a_bad_image_does_not_fail_its_neighbours(server, photos, expected, form):
    (first, second), bad = photos[:2], ("notes.txt", b"no image")
    if form == "files":
        response = server.post([first, bad, second])
    else:
        images = [in_base64(first[1]), "no base64!", {"name": "b", "data": in_base64(second[1])}]
        response = server.post(json={"images": images})
    assert response.status_code == 200
    one, failed, two = response.json()["results"]
    assert same(one, expected[first[0]]) and same(two, expected[second[0]])
    assert failed["class_ids"] == [] and failed["scores"] == [] and failed["label_names"] == []
    assert ("no known image format" if form == "files" else "no base64") in failed["error"]


def test_a_request_without_a_good_image_is_422_with_each_error(server, photos):
    response = server.post([("cut.png", photos[0][1][:60]), ("empty.png", b"")])
    assert response.status_code == 422
    errors = [result["error"] for result in response.json()["results"]]
    assert "truncated" in errors[0] and "empty" in errors[1]


def test_topk_of_a_request(server, photos, expected):
    for topk in (1, 10):
        by_form = server.post(photos[:1], data={"topk": str(topk)}).json()["results"][0]
        by_json = server.post(json={"images": [in_base64(photos[0][1])], "topk": topk}).json()["results"][0]
        assert same(by_form, expected[photos[0][0]], topk) and len(by_form["class_ids"]) == topk
        assert {**by_json, "file_name": photos[0][0]} == by_form


def test_a_name_that_is_no_text_is_escaped(server, photos, expected):
    body = json.dumps({"images": [{"name": "a\ud800b", "data": in_base64(photos[0][1])}]})
    response = server.post(content=body, headers={"Content-Type": "application/json"})
    assert response.json()["results"][0]["file_name"] == "a\\ud800b"
    assert same(response.json()["results"][0], expected[photos[0][0]])


def test_base64_may_be_wrapped(server, photos, expected):
    text = in_base64(photos[0][1])
    wrapped = "\n".join(text[place : place + 76] for place in range(0, len(text), 76))
    assert same(server.post(json={"images": [wrapped]}).json()["results"][0], expected[photos[0][0]])


# ---- refusals -----------------------------------------------------------------------------------------------------

NESTED = b'{"images": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
REFUSED = {
    "no body": ({"content": b""}, 415, "unknown_content_type", "multipart/form-data or application/json"),
    "text": (
        {"content": b"x", "headers": {"Content-Type": "text/plain"}},
        415,
        "unknown_content_type",
        "got 'text/plain'",
    ),
    "no json": ({"content": b"{"}, 400, "bad_json", "not JSON"),
    "no utf-8": ({"content": b'{"images": "\xff"}'}, 400, "bad_json", "not JSON"),
    "nested": ({"content": NESTED}, 400, "bad_json", "nested too deeply"),
    "a list": ({"json": []}, 400, "bad_json", "got a list"),
    "no images": ({"json": {}}, 400, "no_images", "holds no image"),
    "empty": ({"json": {"images": []}}, 400, "no_images", "holds no image"),
    "misspelt": ({"json": {"image": ["x"]}}, 400, "unknown_key", "did you mean images?"),
    "text for a list": ({"json": {"images": "x"}}, 400, "bad_json", "images is a string; expected a list"),
    "number for an image": ({"json": {"images": [1]}}, 400, "bad_json", "images[0] is a number"),
    "no data": ({"json": {"images": [{"name": "a"}]}}, 400, "bad_json", "images[0].data is a null"),
    "topk 0": ({"json": {"images": ["x"], "topk": 0}}, 400, "bad_topk", "'0'; expected a whole number from 1 to 10"),
    "topk 11": ({"json": {"images": ["x"], "topk": 11}}, 400, "bad_topk", "from 1 to 10"),
    "topk true": ({"json": {"images": ["x"], "topk": True}}, 400, "bad_topk", "'True'"),
    "nine images": ({"json": {"images": ["x"] * 9}}, 413, "too_many_images", "more than 8 images"),
    "nine files": ({"files": [("images", b"x")] * 9}, 413, "too_many_images", "more than 8 images"),
    "other field": ({"files": [("image", b"x")]}, 400, "unknown_key", "did you mean images?"),
    "text in the form": (
        {"files": [("images", (None, b"x"))]},
        400,
        "bad_form",
        "expected a file, as `curl -F images=@photo.jpg` sends it",
    ),
    "topk in the form": ({"files": [("images", b"x")], "data": {"topk": "many"}}, 400, "bad_topk", "'many'"),
    "no boundary": (
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "bad_form",
        "boundary",
    ),
    "cut form": (
        {"content": b"--x\r\nContent-Di", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        400,
        "no_images",
        "holds no image",
    ),
    "large image": ({"files": [("images", ("a.png", bytes(1 << 20) + b"x"))]}, 413, "image_too_large", "a.png has 1,0"),
    "large image in json": (
        {"json": {"images": [in_base64(bytes(1 << 20) + b"x")]}},
        413,
        "image_too_large",
        "image 0 has 1,048,577 bytes",
    ),
    "large body": ({"content": bytes(3 << 20)}, 413, "request_too_large", "2,097,152 bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(server, case):
    arguments, status, code, message = REFUSED[case]
    if "content" in arguments and case != "no body":
        arguments = {"headers": {"Content-Type": "application/json"}, **arguments}
    response = server.post(**arguments)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert message in response.json()["message"]


PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize("kind, begin", [("application/json", b""), ("multipart/form-data; boundary=x", PART)])
def test_a_body_of_unknown_length_ends_at_the_limit(server, kind, begin):
    chunks = (begin if number == 0 else bytes(1 << 16) for number in range(48))
    response = server.post(content=chunks, headers={"Content-Type": kind})
    assert response.status_code == 413 and response.json()["code"] == "request_too_large"


def test_pixels_are_counted_before_they_are_decoded(server):
    large, good = server.post([("large.png", png(2000, 501)), ("good.png", png(2000, 500))]).json()["results"]
    assert large["error"] == "2000x501 pixels are more than 1,000,000"
    assert "error" not in good


def test_other_paths_and_methods(server):
    assert server.get("/predict").status_code == 405
    assert server.get("/predictions").status_code == 404


# ---- clients that misbehave ---------------------------------------------------------------------------------------

HEAD = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"


def answer_of(connection) -> tuple:
    """Return status and content of the answer on a raw connection, which must end after it."""
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_slow_clients_hold_up_no_one_but_themselves(server, photos, expected):
    """39 of 40 requests in progress send no more than the beginning of a body; with the 40th there is no room."""
    slow = [server.connect() for _ in range(39)]
    try:
        for connection in slow:
            connection.sendall(HEAD.encode() + b'{"im')
        server.wait_for(lambda: server.figure("ppcls_ext_requests_in_progress") == 39)
        assert same(server.post(photos[:1]).json()["results"][0], expected[photos[0][0]])
        slow.append(server.connect())
        slow[-1].sendall(HEAD.encode())
        server.wait_for(lambda: server.figure("ppcls_ext_requests_in_progress") == 40)
        response = server.post(photos[:1])
        assert (response.status_code, response.json()["code"]) == (503, "busy")
        assert response.headers["Retry-After"] == "1"
        assert server.health() == 200
        for connection in slow:
            assert answer_of(connection) == (
                408,
                {"code": "body_too_slow", "message": "the body did not arrive within 3 s"},
            )
    finally:
        for connection in slow:
            connection.close()
    assert server.post(photos[:1]).status_code == 200


def test_clients_that_go_leave_nothing_behind(server, photos):
    for beginning in ("POST /pre", HEAD, HEAD + '{"images": ["'):
        with server.connect() as connection:
            connection.sendall(beginning.encode())
    with server.connect() as connection:  # goes before the answer
        body = json.dumps({"images": [in_base64(photos[0][1])]})
        head = HEAD.replace("100", str(len(body)))
        connection.sendall((head + body).encode())
        connection.shutdown(socket.SHUT_RDWR)
    server.wait_for(lambda: server.figure("ppcls_ext_requests_in_progress") == 0)
    server.wait_for(lambda: server.figure("ppcls_ext_images_in_progress") == 0)
    assert server.post(photos[:1]).status_code == 200


# ---- what operators see -------------------------------------------------------------------------------------------


def test_the_openapi_page_describes_the_service_with_an_example_that_works(server):
    page = server.get("/openapi.json").json()
    body = page["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"}
    assert set(page["paths"]) == {"/predict", "/health", "/metrics"}
    for example in body["application/json"]["examples"].values():
        assert server.post(json=example["value"]).status_code == 200
    statuses = set(page["paths"]["/predict"]["post"]["responses"])
    assert {str(status) for _, status, _, _ in REFUSED.values()} | {"408", "422", "503"} <= statuses
    assert server.get("/docs").status_code == 200


def test_the_metrics_count_what_happened(server, photos):
    names = (
        'ppcls_ext_requests_total{status="200"}',
        'ppcls_ext_requests_total{status="413"}',
        'ppcls_ext_images_total{outcome="ok"}',
        'ppcls_ext_images_total{outcome="error"}',
        'ppcls_ext_refused_total{code="too_many_images"}',
    )
    before = [server.figure(name) for name in names]
    server.post([*photos[:3], ("bad", b"x")])
    server.post(photos[:9])
    assert [server.figure(name) - one for name, one in zip(names, before)] == [1, 1, 3, 1, 1]


# ---- the end ------------------------------------------------------------------------------------------------------


def test_sigterm_answers_what_is_in_progress(start, photos, expected):
    """A window of two seconds holds the requests; while it fills the queue, more is refused."""
    server = start("--batch_window", "2000", "--batch_size", "64", "--max_images", "8", "--max_queue", "16")

    async def talk():
        async with httpx.AsyncClient(base_url=server.url, timeout=120, verify=False) as client:
            files = [[("images", file) for file in photos[8 * number : 8 * number + 8]] for number in range(3)]
            waiting = [asyncio.create_task(client.post("/predict", files=files[number])) for number in range(2)]
            while server.figure("ppcls_ext_images_in_progress") < 16:
                await asyncio.sleep(0.05)
            refused = await client.post("/predict", files=files[2])
            assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
            server.process.terminate()
            return await asyncio.gather(*waiting)

    for number, response in enumerate(asyncio.run(talk())):
        mine = photos[8 * number : 8 * number + 8]
        assert response.status_code == 200
        results = response.json()["results"]
        assert all(same(result, expected[name]) for result, (name, _) in zip(results, mine))
    code, output = server.stop()
    assert code == -15 and "Traceback" not in output
    with pytest.raises(httpx.ConnectError):
        server.get("/health")
