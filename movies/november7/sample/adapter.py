"""An adapter for `requests` that answers from the sample catalogue, without a network."""

from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import orjson
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.response import HTTPResponse

from movies.november7.sample.catalogue import page, sample_movies


class EmbeddedAdapter(HTTPAdapter):
    """Answers requests for pages, with `skip` and `limit`, from the sample catalogue.

    Mount it at a prefix that starts with `http`: requests drops the query parameters of URLs with
    other schemes.
    """

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: object = None,
        verify: object = True,
        cert: object = None,
        proxies: object = None,
    ) -> Response:
        """The page that `request` asks for; the other arguments are ignored."""
        asked = parse_qs(urlsplit(request.url or "").query)
        query, skip, limit = (asked.get(name, [""])[0] for name in ("query", "skip", "limit"))
        raw = HTTPResponse(
            body=BytesIO(orjson.dumps(page(sample_movies(), query, int(skip), int(limit)))),
            headers={"Content-Type": "application/json"},
            status=200,
            reason="OK",
            preload_content=False,
        )
        return self.build_response(request, raw)
