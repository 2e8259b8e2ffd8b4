/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the dashboard can do besides being read. All of it is to be seen without this. */
"use strict";

const byId = (id) => document.getElementById(id);
const vms = [...document.querySelectorAll("details.vm")];

/* ---- the language: the reader's, if there is one here ---- */

const languages = [byId("en"), byId("ko")];

function tellLanguage() {
	document.documentElement.lang = languages.find((radio) => radio.checked).id;
}

for (const wanted of navigator.languages) {
	const radio = languages.find((one) => one.id === wanted.split("-")[0]);

	if (radio) {
		radio.checked = true;
		break;
	}
}
for (const radio of languages)
	radio.addEventListener("change", tellLanguage);
tellLanguage();

/* ---- finding VMs ---- */

const fold = (text) => text.normalize("NFKC").toLowerCase();
const keys = vms.map((vm) => fold(vm.querySelector("h3").textContent));

function find() {
	const words = fold(byId("find").value).split(/\s+/).filter(Boolean);
	let found = 0;

	vms.forEach((vm, i) => {
		vm.hidden = !words.every((word) => keys[i].includes(word));
		found += !vm.hidden;
	});
	byId("found").textContent = words.length ? `${found} / ${vms.length}` : "";
}

function openAll(open) {
	for (const vm of vms)
		if (!vm.hidden)
			vm.open = open;
}

byId("find").addEventListener("input", find);
byId("open").addEventListener("click", () => openAll(true));
byId("close").addEventListener("click", () => openAll(false));
byId("tools").hidden = vms.length === 0;

/* ---- a link to a VM opens it ---- */

function openLinked() {
	const vm = vms.find((one) => `#${one.id}` === location.hash);

	if (!vm)
		return;
	if (vm.hidden) {
		byId("find").value = "";
		find();
	}
	vm.open = true;
	vm.scrollIntoView();
	vm.querySelector("summary").focus();
}

addEventListener("hashchange", openLinked);
openLinked();
