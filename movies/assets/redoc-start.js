"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");

const narrow = window.matchMedia("(max-width: 40rem)");

const DARK = {
  colors: {
    primary: { main: "#93c5fd" },
    success: { main: "#86efac" },
    warning: { main: "#fcd34d" },
    error: { main: "#fca5a5" },
    text: { primary: "#e5e7eb", secondary: "#cbd5e1" },
    border: { dark: "#6b7280", light: "#374151" },
    responses: {
      success: { color: "#86efac", backgroundColor: "#14301f", tabTextColor: "#86efac" },
      error: { color: "#fca5a5", backgroundColor: "#3b1a1a", tabTextColor: "#fca5a5" },
    },
  },
  schema: {
    linesColor: "#6b7280",
    typeNameColor: "#cbd5e1",
    typeTitleColor: "#cbd5e1",
    requireLabelColor: "#fca5a5",
    nestedBackground: "#1f2937",
    arrow: { color: "#cbd5e1" },
  },
  typography: {
    code: { color: "#fca5a5", backgroundColor: "#1f2937" },
    links: { color: "#93c5fd", visited: "#93c5fd", hover: "#bfdbfe" },
  },
  sidebar: { backgroundColor: "#1f2937", textColor: "#e5e7eb", activeTextColor: "#93c5fd" },
  rightPanel: {
    backgroundColor: "#0b1220",
    servers: {
      overlay: { backgroundColor: "#1f2937", textColor: "#e5e7eb" },
      url: { backgroundColor: "#111827" },
    },
  },
  codeBlock: { backgroundColor: "#030712" },
  fab: { backgroundColor: "#374151", color: "#e5e7eb" },
};

function show() {
  const last = document.getElementById("redoc");
  const page = last.cloneNode(false); // ReDoc takes an element only once
  last.replaceWith(page);
  Redoc.init(
    page.dataset.schema,
    {
      expandResponses: "200,201",
      generatedSamplesMaxDepth: 3,
      hideDownloadButtons: true, // the link is at the top of the page
      hideSchemaPattern: true,
      jsonSamplesExpandLevel: "all",
      schemasExpansionLevel: "all",
      theme: {
        ...(dark.matches ? DARK : {}),
        spacing: { sectionHorizontal: narrow.matches ? 16 : 40, sectionVertical: 20 },
      },
    },
    page,
  );
}

show();
dark.addEventListener("change", show);
narrow.addEventListener("change", show);
