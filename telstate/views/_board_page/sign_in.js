// Signing in: the token goes to the service once, in the body of a request, and a cookie that no script can read comes back.

import { byId } from "./dom.js";
import { ask } from "./stream.js";

/** @param {() => void} done called when the browser is signed in */
export function setUpSignIn(done) {
  const [form, input] = [byId("sign-in-form"), /** @type {HTMLInputElement} */ (byId("token"))];
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    byId("sign-in-error").textContent = "";
    try {
      await ask("board/sign-in", { token: input.value });
    } catch (error) {
      byId("sign-in-error").textContent = /** @type {Error} */ (error).message;
      input.select();
      return;
    }
    input.value = "";
    byId("sign-in").hidden = true;
    done();
  });
  byId("sign-out").addEventListener("click", async () => {
    await ask("board/sign-out", {}).catch(() => null);
    location.reload();
  });
}

export function showSignIn() {
  byId("main").hidden = true;
  byId("sign-in").hidden = false;
  byId("token").focus();
}
