"""An adapter for `requests` that answers from the sample catalogue, without a network."""

from http import HTTPStatus
from io import BytesIO

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.response import HTTPResponse

from .catalogue import sample_catalogue


class EmbeddedAdapter(HTTPAdapter):
    """Answers every request from the sample catalogue, whatever the host.

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
        """The catalogue's answer to `request`; the other arguments are ignored."""
        answer = sample_catalogue().answer(request.method or "GET", request.path_url)
        raw = HTTPResponse(
            body=BytesIO(answer.body),
            headers=answer.headers,
            status=answer.status,
            reason=HTTPStatus(answer.status).phrase,
            preload_content=False,
            request_method=request.method,
        )
        return self.build_response(request, raw)
