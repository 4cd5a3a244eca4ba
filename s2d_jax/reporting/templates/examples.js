// Lets the reader browse the inputs: by outcome, variant and text. Without this
// script the page shows a few of them. What a model wrote becomes text nodes
// only, never markup.
"use strict";
{
  const data = JSON.parse(document.getElementById("inputs-data").textContent);
  const place = document.getElementById("browser");
  const PAGE = 20;

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  };
  const readable = (name) => name.replaceAll("_", " ");
  const reasonName = (reason) => data.reasons[reason] ?? reason;
  const share = (value) => value.toFixed(2);

  // What an input came to: the first part of a filter's value is the kind.
  const outcome = (input) =>
    input.reason === null ? (input.wrong ? "kept, but wrong" : "kept")
      : reasonName(input.reason);

  const haystack = (input) => {
    input.text ??= [
      input.id, input.question, input.target ?? "",
      ...input.votes.map(([answer]) => answer),
      ...input.drawn.flatMap((sample) => sample.steps.map((step) => step.text)),
    ].join("\n").toLowerCase();
    return input.text;
  };

  const vote = (answer, count, samples, attributes) =>
    make("li", {},
      make("span", attributes, answer),
      make("meter", {
        min: 0, max: Math.max(samples, count), value: count,
        "aria-label": `${count} of ${samples} votes`,
      }),
      String(count));

  const votes = (input) => {
    const list = make("ul", {class: "votes"});
    let counted = 0;
    for (const [answer, count] of input.votes) {
      list.append(vote(answer, count, input.samples, {dir: "auto"}));
      counted += count;
    }
    if (input.samples > counted) {
      list.append(vote("no answer", input.samples - counted, input.samples,
        {class: "where"}));
    }
    return list;
  };

  const sample = (input, one) => {
    const node = make("div", {class: "sample"},
      make("p", {class: "note"}, `sample ${one.sample}, answer: `,
        make("bdi", {}, one.answer ?? "none found")));
    one.steps.forEach((step, index) => {
      node.append(
        make("details", {},
          make("summary", {},
            `step ${index + 1}, ${step.tokens} tokens; its prompt`),
          make("pre", {class: "box", dir: "auto", tabindex: 0},
            input.prompts[step.prompt])),
        make("blockquote", {dir: "auto"}, step.text));
    });
    return node;
  };

  const facts = (input) => {
    const margin = input.margin === null ? "no vote" : share(input.margin);
    const list = make("dl", {},
      make("dt", {}, "question"), make("dd", {dir: "auto"}, input.question),
      make("dt", {}, "margin"),
      make("dd", {}, `${margin}, agreement ${share(input.agreement)}`));
    if (input.target !== null) {
      list.append(
        make("dt", {}, input.reason === null ? "target" : "not taught"),
        make("dd", {dir: "auto"}, input.target));
    }
    return list;
  };

  const details = (input) => [
    make("p", {class: "note"}, `${input.id} · ${readable(input.variant)}`,
      input.why ? ` · ${input.why}` : ""),
    votes(input),
    facts(input),
    ...input.drawn.map((one) => sample(input, one)),
    input.more
      ? make("p", {class: "note"}, `${input.more} more in samples/`)
      : null,
  ].filter((node) => node !== null);

  const entry = (input) => {
    const kind = input.reason !== null ? "still"
      : input.wrong ? "rejected" : "kept";
    const node = make("details", {class: "entry"},
      make("summary", {},
        make("span", {class: `tag ${kind}`},
          outcome(input)),
        make("span", {class: "question", dir: "auto"}, input.question),
        make("span", {class: "target", dir: "auto"}, input.target ?? "")));
    node.addEventListener("toggle", () => {
      if (node.open && node.childElementCount === 1) {
        node.append(make("div", {class: "inside"}, ...details(input)));
      }
    });
    return node;
  };

  const choice = (label, all, names) => {
    const select = make("select", {}, make("option", {value: ""}, all));
    for (const [name, count] of names) {
      select.append(
        make("option", {value: name}, `${readable(name)} (${count})`));
    }
    return [select, make("label", {}, label, select)];
  };
  const counts = (values) => {
    const found = new Map();
    for (const value of values) found.set(value, (found.get(value) ?? 0) + 1);
    return found;
  };

  const inputs = data.inputs;
  const [byOutcome, outcomeLabel] =
    choice("Outcome", "every outcome", counts(inputs.map(outcome)));
  const [byVariant, variantLabel] =
    choice("Variant", "every variant",
      counts(inputs.map((input) => input.variant)));
  const search = make("input",
    {type: "search", placeholder: "question, answer, thought"});
  const status = make("p", {class: "note", role: "status"});
  const list = make("div", {class: "entries card"});
  const more = make("button", {type: "button"});

  let found = [];
  let shown = 0;
  const extend = () => {
    list.append(...found.slice(shown, shown + PAGE).map(entry));
    shown = Math.min(shown + PAGE, found.length);
    more.hidden = shown === found.length;
    more.textContent = `Show more (${found.length - shown} left)`;
  };
  const filter = () => {
    const words = search.value.toLowerCase().trim();
    found = inputs.filter((input) =>
      (!byOutcome.value || outcome(input) === byOutcome.value)
      && (!byVariant.value || input.variant === byVariant.value)
      && (!words || haystack(input).includes(words)));
    status.textContent =
      `${found.length.toLocaleString("en")} of the ` +
      `${inputs.length.toLocaleString("en")} inputs on this page`;
    list.replaceChildren();
    list.hidden = !found.length;
    shown = 0;
    extend();
  };
  for (const control of [byOutcome, byVariant, search]) {
    control.addEventListener("input", filter);
  }
  more.addEventListener("click", extend);

  filter();
  place.replaceChildren(
    make("div", {class: "filters"}, outcomeLabel, variantLabel,
      make("label", {class: "search"}, "Search", search)),
    status, list, more);
}
