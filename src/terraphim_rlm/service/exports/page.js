"use strict";
const tree = document.getElementById("tree");
const all = (open) => { for (const each of tree.querySelectorAll("details")) each.open = open; };
const show = (element) => {
  for (let at = element; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  element.scrollIntoView({ block: "start" });
  const summary = element.querySelector("summary");
  if (summary) summary.focus({ preventScroll: true });
};
const theme = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};
const move = (by) => {
  const seen = [...tree.querySelectorAll("summary")].filter((each) => each.offsetParent !== null);
  const at = seen.indexOf(document.activeElement);
  const next = seen[at < 0 ? (by > 0 ? 0 : seen.length - 1) : at + by];
  if (next) next.focus();
};
const KEYS = { e: () => all(true), c: () => all(false), j: () => move(1), k: () => move(-1), t: theme };
document.getElementById("open").addEventListener("click", KEYS.e);
document.getElementById("close").addEventListener("click", KEYS.c);
document.getElementById("theme").addEventListener("click", theme);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const work = KEYS[event.key];
  if (work) { event.preventDefault(); work(); }
});
const follow = () => {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target && tree.contains(target)) show(target);
};
addEventListener("hashchange", follow);
follow();
