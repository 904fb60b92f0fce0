"""An adapter for `requests` that answers from the sample catalogue, without a network."""

from http import HTTPStatus
from io import BytesIO

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3.response import HTTPResponse

from .catalogue import sample_catalogue


class EmbeddedAdapter(BaseAdapter):
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
            version=11,
            version_string="HTTP/1.1",
            preload_content=False,
            request_method=request.method,
            request_url=request.url,
        )
        response = Response()
        response.status_code = answer.status
        response.reason = raw.reason or ""
        response.headers = CaseInsensitiveDict(answer.headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.url = request.url or ""
        response.request = request
        response.raw = raw
        return response

    def close(self) -> None:
        """Nothing needs to be closed."""
