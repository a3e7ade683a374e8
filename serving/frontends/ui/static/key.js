// The API key, where the server asks for one: kept in this tab's session and nowhere else.

import { byId, setText } from "./dom.js";

const STORED = "muxjax-key";

export function headers() {
  const key = sessionStorage.getItem(STORED);
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

export const forgetKey = () => sessionStorage.removeItem(STORED);

let asked = false;

// Shows the form and waits until a key is entered.
export function askForKey(status) {
  const [form, input] = [byId("key-form"), byId("key")];
  if (asked) setText(byId("key-note"), status === 403 ? "This key may not see the server's status." : "The server does not know this key.");
  asked = true;
  form.hidden = false;
  input.focus();
  return new Promise((resume) => {
    form.addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        sessionStorage.setItem(STORED, input.value);
        input.value = "";
        form.hidden = true;
        resume();
      },
      { once: true },
    );
  });
}
