"use strict";
// Both help where scripts run, and the forms work where they do not.
for (const input of document.querySelectorAll("input[type=password]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet reveal";
  button.textContent = input.dataset.show;
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
  });
  input.form.addEventListener("submit", () => { input.type = "password"; });
  input.after(button);
}
// A second press while the answer is on its way would replace it: codes that are shown once, say.
const WAIT_MS = 5000;
for (const form of document.querySelectorAll("form[method=post]")) {
  let sentAt = -Infinity;
  form.addEventListener("submit", (event) => {
    if (event.timeStamp - sentAt < WAIT_MS) event.preventDefault();
    else sentAt = event.timeStamp;
  });
  window.addEventListener("pageshow", () => { sentAt = -Infinity; });
}
const country = document.querySelector("select[name=country]");
const currency = document.querySelector("select[name=currency]");
if (country && currency) {
  const groups = [...currency.querySelectorAll("optgroup")];
  const offer = () => {
    const own = groups.some((group) => group.dataset.country === country.value);
    for (const group of groups) {
      const fits = country.value && group.dataset.country === (own ? country.value : "");
      group.disabled = group.hidden = !fits;
      if (fits && currency.selectedOptions[0]?.parentElement !== group) {
        currency.value = "";
        const options = group.querySelectorAll("option");
        if (options.length === 1) options[0].selected = true;
      }
    }
  };
  country.addEventListener("change", offer);
  offer();
}
for (const button of document.querySelectorAll("button[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = button.dataset.done;
    });
  }
}

// Passkeys: WebAuthn speaks in bytes, and forms in text.
const toBytes = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (each) => each.charCodeAt(0));
const toText = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes)))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const withBytes = (credentials) => credentials?.map((each) => ({ ...each, id: toBytes(each.id) }));
async function askDevice(field) {
  const options = JSON.parse(field.dataset.options);
  const publicKey = { ...options, challenge: toBytes(options.challenge) };
  if (field.dataset.kind === "create") {
    publicKey.user = { ...options.user, id: toBytes(options.user.id) };
    publicKey.excludeCredentials = withBytes(options.excludeCredentials);
    return navigator.credentials.create({ publicKey });
  }
  publicKey.allowCredentials = withBytes(options.allowCredentials);
  return navigator.credentials.get({ publicKey });
}
function answerText(credential) {
  const { response } = credential;
  const names = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"];
  const parts = names.filter((name) => response[name]).map((name) => [name, toText(response[name])]);
  return JSON.stringify({
    id: credential.id,
    rawId: toText(credential.rawId),
    type: credential.type,
    response: { ...Object.fromEntries(parts), transports: response.getTransports?.() ?? [] },
    clientExtensionResults: credential.getClientExtensionResults(),
  });
}
if (window.PublicKeyCredential) {
  for (const part of document.querySelectorAll("[data-passkey-only]")) part.hidden = false;
  for (const button of document.querySelectorAll("button[data-passkey]")) {
    const { form } = button;
    const field = form.querySelector("input[name=passkey]");
    button.hidden = false;
    button.addEventListener("click", async (event) => {
      event.preventDefault();
      if (!form.reportValidity()) return;
      const failed = form.querySelector("[data-failed]");
      failed.hidden = true;
      try {
        field.value = answerText(await askDevice(field));
      } catch {
        failed.hidden = false;
        return;
      }
      form.requestSubmit(button);
      field.value = "";
    });
  }
}
