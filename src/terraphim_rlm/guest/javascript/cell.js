// One JavaScript interpreter of a sandbox: runs cells one after another in one realm. The frames of its channel are
// those of a Python cell, see ../frames.py. User code shares this process: what it breaks or forges is its own loss.
// So that it breaks nothing by accident, what is needed here is taken before it runs.
const [fs, inspector, net, os, path, url, util, vm, worker] = [
  "fs", "inspector", "net", "os", "path", "url", "util", "vm", "worker_threads",
].map(require);
const IMPORT = "__import";
const CHANNEL = 3;
const BELL = 4;
const HEADER = 9;
const [EXEC, OPTIONS, PARK, ENTER] = [1, 6, 7, 9];
const [HELLO, DONE, VALUE] = [16, 18, 19];
const MOST = 20000; // characters of a message or a traceback
const RETRY = 100; // milliseconds until one that does not hear the bell is torn out of what it does

const { inspect } = util;
const { parse, stringify } = JSON;
const { setImmediate } = globalThis;
const { chdir, cwd, env } = process;
const { openSync, closeSync, writeSync, readdirSync, readlinkSync } = fs;
const own = (method) => Function.prototype.call.bind(method);
const [concat, fromText, allocate] = [Buffer.concat, Buffer.from, Buffer.alloc];
const [readNumber, writeNumber] = [own(Buffer.prototype.readUInt32LE), own(Buffer.prototype.writeUInt32LE)];
const [part, decoded] = [own(Buffer.prototype.subarray), own(Buffer.prototype.utf8Slice)];
const [slice, replaced] = [own(String.prototype.slice), own(String.prototype.replace)];
const stored = Atomics.store;
const now = new Int32Array(new SharedArrayBuffer(4)); // number of the execution that runs; 0 = none
const folder = { __proto__: null, before: "" };
const session = new inspector.Session();
const hand = { __proto__: null, value: undefined }; // how a value comes over from the inspector
let handId;
let count = 0;
let current;
let options;
let watch;

// The event loop hears nothing while user code holds it, so a thread of its own listens for the host's bell. Its start
// would be a third of the first cell's time, so that cell, if it never lets go, is killed with what it has set itself.
const WATCH = `
const { parentPort, workerData } = require("worker_threads");
const inspector = require("inspector");
const session = new inspector.Session();
session.connectToMainThread();
function ring(number) {
  parentPort.postMessage(number);
  setTimeout(() => {
    if (Atomics.load(workerData, 0) !== number) return;
    session.post("Runtime.terminateExecution", () => {});
    ring(number);
  }, ${RETRY});
}
new (require("net").Socket)({ fd: ${BELL}, writable: false }).on("data", (data) => ring(data.readUInt32LE(0)));
`;

function start() {
  closeSync(5);
  session.connect();
  globalThis[IMPORT] = hand;
  session.post("Runtime.evaluate", { expression: IMPORT }, (_, answer) => (handId = answer.result.objectId));
  Object.defineProperty(globalThis, IMPORT, { value: importing, enumerable: false });
  for (const name of ["stdout", "stderr"]) waitForReaders(name);
  process.on("uncaughtException", failed);
  process.on("unhandledRejection", failed);
  const socket = new net.Socket({ fd: CHANNEL });
  socket.on("data", received);
  socket.on("end", () => process.reallyExit(0));
  socket.on("error", () => process.reallyExit(0));
  send(HELLO, 0, "");
  setImmediate(() => {
    try {
      if (count === 0) declarations.load();
    } catch {}
  });
}

// Node writes to pipes behind a program's back, and loses what is not written when that leaves.
function waitForReaders(name) {
  const { get } = Object.getOwnPropertyDescriptor(process, name);
  let stream;
  Object.defineProperty(process, name, {
    configurable: true,
    enumerable: true,
    get() {
      if (stream === undefined) {
        stream = get.call(process);
        stream._handle?.setBlocking?.(true);
      }
      return stream;
    },
  });
}

function importing(name, attributes) {
  const isPath = /^\.{0,2}\//.test(name);
  return importer(isPath ? url.pathToFileURL(path.resolve(name)).href : name, attributes);
}

let chunks = [];
let held = 0;
let needed = HEADER;

function received(data) {
  chunks[chunks.length] = data;
  held += data.length;
  if (held < needed) return;
  let whole = concat(chunks);
  needed = HEADER;
  while (whole.length >= HEADER) {
    const end = HEADER + readNumber(whole, 0);
    if (whole.length < end) {
      needed = end;
      break;
    }
    frame(whole[4], readNumber(whole, 5), part(whole, HEADER, end));
    whole = part(whole, end);
  }
  chunks = [whole];
  held = whole.length;
}

function frame(kind, number, body) {
  if (kind === EXEC) execute(number, decoded(body, 0, body.length));
  else if (kind === OPTIONS) options = parse(decoded(body, 0, body.length));
  else if (kind === PARK) answer(number, () => park(parse(decoded(body, 0, body.length))));
  else if (kind === ENTER) answer(number, enter);
}

function send(kind, number, text) {
  const body = fromText(text, "utf8");
  const head = allocate(HEADER);
  writeNumber(head, body.length, 0);
  head[4] = kind;
  writeNumber(head, number, 5);
  write(CHANNEL, concat([head, body]));
}

function write(fd, data) {
  for (let at = 0; at < data.length; ) {
    try {
      at += writeSync(fd, data, at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

function execute(number, source) {
  const cell = (current = { __proto__: null, number, failed: false, error: undefined, restore: undefined });
  count += 1;
  if (count > 1) listen();
  else setImmediate(listen);
  stored(now, 0, number);
  let what = { text: source, shown: true };
  try {
    cell.restore = entered(options);
    what = declarations.prepared(source, count);
  } catch (error) {
    if (cell.restore === undefined) return over(cell, error);
  } finally {
    options = undefined;
  }
  const asked = { expression: `${what.text}\n//# sourceURL=cell-${count}`, replMode: true, objectGroup: "cell" };
  session.post("Runtime.evaluate", asked, (error, said) => {
    if (current !== cell) return;
    try {
      if (error) over(cell, stopped());
      else evaluated(cell, what, said);
    } catch (unshown) {
      over(cell, unshown);
    }
  });
}

function evaluated(cell, what, said) {
  const where = said.exceptionDetails;
  if (where) return over(cell, taken(where.exception), where);
  const value = taken(said.result);
  if (what.shown && value !== undefined) write(1, fromText(`${inspect(value)}\n`, "utf8"));
  setImmediate(() => finish(cell)); // rejections that nobody took come first
}

function listen() {
  if (watch !== undefined) return;
  const limits = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 };
  watch = new worker.Worker(WATCH, { eval: true, workerData: now, resourceLimits: limits, env: {}, execArgv: [] });
  watch.on("message", (number) => {
    if (current?.number === number) over(current, stopped());
  });
  watch.on("error", () => {});
  watch.unref();
}

function stopped() {
  return { __proto__: null, name: "Interrupted", message: "It was stopped from outside." };
}

// The value behind the inspector's words for it.
function taken(remote) {
  const argument = { __proto__: null };
  if (remote.objectId !== undefined) argument.objectId = remote.objectId;
  else if (remote.unserializableValue !== undefined) argument.unserializableValue = remote.unserializableValue;
  else argument.value = remote.value;
  const call = { objectId: handId, functionDeclaration: "function (value) { this.value = value; }", arguments: [argument] };
  if (remote.type === "undefined") hand.value = undefined;
  else session.post("Runtime.callFunctionOn", call);
  session.post("Runtime.releaseObjectGroup", { objectGroup: "cell" });
  const { value } = hand;
  hand.value = undefined;
  return value;
}

function failed(value) {
  if (current !== undefined) over(current, value);
  else write(2, fromText(`Uncaught ${described(value)}\n`, "utf8"));
}

function over(cell, error, where) {
  if (cell.failed) return;
  cell.failed = true;
  cell.error = report(error, where);
  setImmediate(() => finish(cell));
}

function finish(cell) {
  if (current !== cell) return;
  current = undefined;
  stored(now, 0, 0);
  try {
    cell.restore?.();
  } catch {}
  send(DONE, cell.number, cell.failed ? cell.error : "");
}

function report(error, where) {
  const isError = util.types.isNativeError(error) || (typeof error === "object" && error !== null);
  const said = (name) => {
    try {
      const value = isError ? error[name] : undefined;
      return typeof value === "string" || typeof value === "number" ? value : undefined;
    } catch {}
  };
  const type = said("name") ?? (error === null ? "null" : typeof error);
  const message = said("message") ?? described(error);
  let number = said("errno");
  if (message === "Array buffer allocation failed") number = -os.constants.errno.ENOMEM;
  return stringify({
    __proto__: null,
    type: cut(`${type}`),
    message: cut(`${message}`),
    traceback: cut(traceback(error, `${type}`, where)),
    exit_code: 1,
    errno: typeof number === "number" ? -number : null,
  });
}

function traceback(error, type, where) {
  if (type === "Interrupted") return "";
  const text = described(error);
  if (type !== "SyntaxError" || where === undefined) return `Uncaught ${text}\n`;
  return `cell-${count}:${where.lineNumber + 1}:${where.columnNumber + 1}\nUncaught ${text}\n`;
}

// As at Node's prompt, without the steps that lead to here.
function described(value) {
  let text;
  try {
    text = inspect(value);
  } catch {
    return "(it could not be described)";
  }
  return replaced(text, /\n {4}at (?:[^\n]*\()?(?:node:inspector|cell\.js)[^\n]*(?:\n {4}at [^\n]*)*/g, "");
}

function cut(text) {
  if (text.length <= MOST) return text;
  const half = MOST / 2;
  return `${slice(text, 0, half)}\n... ${text.length - MOST} characters left out ...\n${slice(text, -half)}`;
}

// Environment, folder and standard input of one execution; returns what puts the old ones back.
function entered(wanted) {
  const steps = [];
  const undo = () => {
    for (let step = steps.length - 1; step >= 0; step--) {
      try {
        steps[step]();
      } catch {} // the others all the same
    }
  };
  if (wanted === undefined) return undo;
  try {
    if (wanted.cwd) {
      const back = cwd();
      chdir(wanted.cwd);
      steps[steps.length] = () => chdir(back);
    }
    for (const name in wanted.env) {
      const old = env[name];
      env[name] = wanted.env[name];
      steps[steps.length] = () => (old === undefined ? delete env[name] : (env[name] = old));
    }
    if (wanted.stdin) {
      reading(wanted.stdin);
      steps[steps.length] = () => reading("/dev/null");
    }
  } catch (error) {
    undo();
    throw error;
  }
  return undo;
}

// Gives standard input, descriptor 0, another file: the lowest number that is free.
function reading(file) {
  const found = openSync(file, "r");
  closeSync(0);
  const taken = openSync(file, "r");
  closeSync(found);
  if (taken !== 0) throw new Error("Standard input was taken by something that runs on.");
  let stream;
  Object.defineProperty(process, "stdin", {
    configurable: true,
    enumerable: true,
    get: () => (stream ??= fs.createReadStream(null, { fd: 0, autoClose: false })),
  });
}

function answer(number, work) {
  let said;
  try {
    said = work();
  } catch (error) {
    said = { problems: [`the interpreter's files (${error.message})`] };
  }
  send(VALUE, number, stringify({ __proto__: null, ...said }));
}

// Leaves the sandbox's files, and says what keeps them from being taken as they are.
function park({ roots }) {
  try {
    folder.before = cwd();
  } catch {
    folder.before = roots[0];
  }
  chdir("/");
  return { problems: openFiles(roots) };
}

function enter() {
  try {
    chdir(folder.before);
  } catch {
    chdir(env.HOME || "/");
  }
  return {};
}

function openFiles(roots) {
  const found = [];
  for (const fd of readdirSync("/proc/self/fd")) {
    let file = "";
    try {
      file = readlinkSync(`/proc/self/fd/${fd}`);
    } catch {}
    if (roots.some((root) => file === root || file.startsWith(`${root}/`)))
      found.push(`the file ${file}, which JavaScript holds open`);
  }
  return found;
}

start();
