/* SPDX-License-Identifier: MIT */
/* A Worker for pages that are opened from disk, where browsers refuse to start one: the script runs in a hidden frame of
   its own. The theme's search needs messages, importScripts() and the name IFrameWorker. */
"use strict";

window.IFrameWorker = class extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    document.body.append(frame);
    this.inside = frame.contentWindow;
    this.inside.document.open();
    this.inside.document.close();
    this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
    this.inside.importScripts = (...urls) =>
      urls.reduce((before, each) => before.then(() => this.run(each)), Promise.resolve());
    this.ready = this.run(new URL(url, document.baseURI).href);
  }

  run(url) {
    return new Promise((resolve, reject) => {
      const script = this.inside.document.createElement("script");
      script.src = url;
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${url} cannot be loaded`));
      this.inside.document.head.append(script);
    });
  }

  postMessage(data) {
    this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
  }

  terminate() {
    this.inside.frameElement.remove();
  }
};

if (location.protocol === "file:") window.Worker = window.IFrameWorker;
