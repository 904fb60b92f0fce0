"""The quick tour of README.md with the generated Python client: `python tour.py URL`."""

import sys
from uuid import UUID

from movies_api_client import AuthenticatedClient, Client
from movies_api_client.api.auth import sign_in
from movies_api_client.api.movies import search_movies
from movies_api_client.api.ratings import set_my_rating
from movies_api_client.api.users import register
from movies_api_client.models import (
    Credentials,
    MoviePage,
    Rating,
    RatingType,
    RatingUpdate,
    TokenPair,
    User,
    UserCreate,
)

url = sys.argv[1]
email, password = "python@example.com", "lovelace-and-babbage"

client = Client(base_url=url)
user = register.sync(client=client, body=UserCreate(email=email, password=password))
assert isinstance(user, User), user
tokens = sign_in.sync(client=client, body=Credentials(email=email, password=password))
assert isinstance(tokens, TokenPair), tokens

client = AuthenticatedClient(base_url=url, token=tokens.access)
page = search_movies.sync(client=client, query="inception")
assert isinstance(page, MoviePage), page
movie_id: UUID = page.results[0].id
rating = set_my_rating.sync(
    movie_id, client=client, body=RatingUpdate(rating_type=RatingType.UPVOTE)
)
assert isinstance(rating, Rating), rating

page = search_movies.sync(client=client, query="inception")
assert isinstance(page, MoviePage), page
assert page.results[0].my_rating is not None
print(page.results[0].upvotes, "upvote")
