"use strict";

const page = document.getElementById("redoc");

Redoc.init(
  page.dataset.schema,
  {
    downloadUrls: [{ title: "openapi.json", url: page.dataset.download }],
    expandResponses: "200,201",
    generatedSamplesMaxDepth: 3,
    sortRequiredPropsFirst: true,
  },
  page,
);
