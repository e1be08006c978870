// Draw what the page has places for.

const PLACES = {
  "layer-chart": drawLayers, "node-map": drawNodeMap, histograms: drawHistograms, "channel-ranges": drawChannels,
  "level-tables": drawLevels,
};
for (const [key, act] of Object.entries(PLACES)) {
  const place = document.getElementById(key);
  if (place) act(place);
}
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch { // pages opened from a file may not write there: select the text instead
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
