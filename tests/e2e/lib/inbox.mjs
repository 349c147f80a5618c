// What a client was told, in order, and waiting for what it has yet to be told.

import { within } from './wait.mjs';

export class Inbox {
  /** `{name, data}`, oldest first. */
  told = [];
  #waiting = new Set();

  push(name, data) {
    this.told.push({ name, data });
    for (const look of this.#waiting) look();
  }

  /** The data of every event of that name so far. */
  named(name) {
    return this.told.filter((event) => event.name === name).map(({ data }) => data);
  }

  /** The first event of that name that matches, told already or to come. */
  async find(name, matches = () => true) {
    const pick = () => this.told.find((event) => event.name === name && matches(event.data));
    return (await this.until(pick, `a matching ${name}`)).data;
  }

  /** The first `count` events of that name. */
  async first(count, name) {
    await this.until(() => this.named(name).length >= count, `${count} times ${name}`);
    return this.named(name).slice(0, count);
  }

  /** What `pick()` gives as soon as that is not undefined or false. */
  until(pick, what) {
    let look;
    const found = new Promise((resolve) => {
      look = () => {
        const value = pick();
        if (value !== undefined && value !== false) resolve(value);
      };
      this.#waiting.add(look);
      look();
    });
    return within(found, () => `${what}; told so far: ${this.summary()}`).finally(() => this.#waiting.delete(look));
  }

  summary() {
    return JSON.stringify(this.told.slice(-20), null, 1);
  }
}
