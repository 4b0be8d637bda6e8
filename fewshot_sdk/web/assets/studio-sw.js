// Keeps the files of this site, each checked against its hash, so that the page opens offline. FILES, from name to hash,
// and VERSION come first: see web/offline.py.
const CACHE = `fewshot-studio ${registration.scope} ${VERSION}`;
const PAGE = "index.html", PATIENCE = 4000; // milliseconds that a network may take before the page comes from the cache

addEventListener("install", (event) => event.waitUntil(install()));
addEventListener("activate", (event) => event.waitUntil(tidy()));
addEventListener("fetch", (event) => {
  const { request } = event, url = new URL(request.url);
  if (request.method !== "GET") return;
  if (request.mode === "navigate") {
    if ([registration.scope, registration.scope + PAGE].includes(url.origin + url.pathname)) event.respondWith(page(request));
  } else if (url.href.replace(registration.scope, "") in FILES) {
    event.respondWith(kept(request));
  }
});

/** Stores all files, or none: with one that is not of this site the installation fails, and the next visit tries again. */
async function install() {
  const cache = await caches.open(CACHE);
  try {
    await Promise.all(Object.entries(FILES).map(async ([name, integrity]) => {
      const away = name.startsWith("https:");
      const response = await fetch(new Request(name, { integrity, cache: away ? "default" : "no-cache", credentials: away ? "omit" : "same-origin" }));
      if (!response.ok) throw new Error(`${name}: the server answers ${response.status}`);
      await cache.put(name, response);
    }));
  } catch (error) {
    await caches.delete(CACHE);
    throw error;
  }
  await skipWaiting(); // a page that is open has all its files
}

async function tidy() {
  const others = (await caches.keys()).filter((name) => name.startsWith(`fewshot-studio ${registration.scope} `) && name !== CACHE);
  await Promise.all(others.map((name) => caches.delete(name)));
  await clients.claim();
}

/**
 * The page. Where the network answers with another than this worker's, all that is kept is dropped, and all comes from
 * the network until the next worker is installed: files of two versions never mix.
 */
async function page(request) {
  const cached = await own(PAGE);
  const answer = fetch(request).catch(() => null);
  if (!cached) return (await answer) ?? Response.error();
  const response = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
  if (!response?.ok) return cached;
  const digest = await crypto.subtle.digest("SHA-384", await response.clone().arrayBuffer());
  if (`sha384-${btoa(String.fromCharCode(...new Uint8Array(digest)))}` === FILES[PAGE]) return cached;
  await caches.delete(CACHE);
  return response;
}

async function kept(request) {
  return (await own(request.url)) ?? fetch(request);
}

async function own(address) {
  return (await caches.has(CACHE)) ? (await caches.open(CACHE)).match(address, { ignoreVary: true }) : undefined;
}
