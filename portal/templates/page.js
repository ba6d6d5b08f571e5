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
