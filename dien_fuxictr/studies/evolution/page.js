const { expid, user, explained_variance, behaviours, paths } = JSON.parse(document.getElementById("numbers").textContent);
const candidates = paths.slice(0, -1); // the last path is that without a target
const of = (name) => candidates.map((path) => path[name]);

document.title = `${expid}: how the interest of user ${user} evolves over ${plural(behaviours.length, "behaviour")}`;
document.querySelector("h1").textContent = document.title;
const entries = candidates.map(({ name, why, prediction }, slot) => {
  const said = make("small", { text: `${why}; predicted ${short(prediction)}` });
  return make("li", { "data-slot": slot }, letter(slot), make("span", { text: name }, said));
});
const equal = `the same attention, ${Number(paths.at(-1).attention[0].toPrecision(3))}, for every behaviour`;
entries.push(make("li", { class: "untargeted" }, make("span", { text: "no target" }, make("small", { text: equal }))));
document.getElementById("candidates").append(...entries);

const sequence = {
  seen: [...behaviours.keys()],
  attention: of("attention"),
  movement: of("movement"),
  path: of("states_in_two_dimensions"),
  untargeted: paths.at(-1).states_in_two_dimensions,
  explained_variance,
};
const slots = [...candidates.keys()];
const nameOf = (place) => behaviours[place].name;
document.querySelector("main").append(...explanation(sequence, { slots, compared: of("name"), count: behaviours.length, name: nameOf }));
