// The quick tour of README.md with types from openapi-typescript: `node tour.js URL`.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const api = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
const account = { email: "typescript@example.com", password: "lovelace-and-babbage" };

function need<T>(result: { data?: T; error?: { detail: string } }): T {
  if (result.data === undefined) throw new Error(result.error?.detail);
  return result.data;
}

need(await api.POST("/api/v1/users/register/", { body: account }));
const tokens = need(await api.POST("/api/v1/auth/token/", { body: account }));
const headers = { Authorization: `Bearer ${tokens.access}` };

const search = { params: { query: { query: "inception" } }, headers };
const first = need(await api.GET("/api/v1/movies/", search)).results[0];
if (!first) throw new Error("nothing found");
need(
  await api.PUT("/api/v1/movies/{movie_id}/rating/", {
    params: { path: { movie_id: first.id } },
    body: { rating_type: "UPVOTE" },
    headers,
  }),
);
const again = need(await api.GET("/api/v1/movies/", search)).results[0];
if (!again?.my_rating) throw new Error("the vote is missing");
console.log(again.upvotes, "upvotes");
