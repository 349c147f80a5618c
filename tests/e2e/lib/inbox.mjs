// The events that a client received, in order, and waiting for those yet to come.

import { withDeadline } from './wait.mjs';

export class Inbox {
  /** `{name, data}`, oldest first. */
  events = [];
  #checks = new Set();

  push(name, data) {
    this.events.push({ name, data });
    for (const check of this.#checks) check();
  }

  /** The data of every event of that name so far. */
  dataOf(name) {
    return this.events.filter((event) => event.name === name).map(({ data }) => data);
  }

  /** The data of the first event of that name that matches, received already or to come. */
  async waitFor(name, matches = () => true) {
    const pick = () => this.events.find((event) => event.name === name && matches(event.data));
    return (await this.waitUntil(pick, `a matching ${name}`)).data;
  }

  /** The data of the first `count` events of that name. */
  async waitForCount(count, name) {
    await this.waitUntil(() => this.dataOf(name).length >= count, `${count} times ${name}`);
    return this.dataOf(name).slice(0, count);
  }

  /** The result of `pick()` as soon as that is not undefined or false. */
  waitUntil(pick, what) {
    let check;
    const found = new Promise((resolve) => {
      check = () => {
        const value = pick();
        if (value !== undefined && value !== false) resolve(value);
      };
      this.#checks.add(check);
      check();
    });
    return withDeadline(found, () => `${what}; received so far: ${this.summary()}`).finally(() => this.#checks.delete(check));
  }

  summary() {
    return JSON.stringify(this.events.slice(-20), null, 1);
  }
}
