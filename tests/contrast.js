// A function that lists the visible texts of a page whose contrast with their background is lower
// than WCAG 2.2 asks for at level AA: 4.5, or 3 for large text.
() => {
  const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

  function parse(color) {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = color;
    brush.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = brush.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }

  function blend(top, bottom) {
    const alpha = top[3] + bottom[3] * (1 - top[3]);
    const mix = (i) => (top[i] * top[3] + bottom[i] * bottom[3] * (1 - top[3])) / (alpha || 1);
    return [mix(0), mix(1), mix(2), alpha];
  }

  function background(element) {
    let color = [0, 0, 0, 0];
    for (let at = element; at; at = at.parentElement) {
      color = blend(color, parse(getComputedStyle(at).backgroundColor));
    }
    return blend(color, parse("Canvas"));
  }

  function luminance(color) {
    const [red, green, blue] = color
      .slice(0, 3)
      .map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  function contrast(element) {
    const behind = background(element);
    const text = blend(parse(getComputedStyle(element).color), behind);
    const [darker, lighter] = [luminance(text), luminance(behind)].sort((a, b) => a - b);
    return (lighter + 0.05) / (darker + 0.05);
  }

  function isLarge({ fontSize, fontWeight }) {
    return parseFloat(fontSize) >= (Number(fontWeight) >= 700 ? 18.66 : 24);
  }

  const unreadable = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const isShown = element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    if (!isShown || !texts.currentNode.data.trim() || element.closest("option, :disabled")) continue;
    const ratio = contrast(element);
    if (ratio < (isLarge(getComputedStyle(element)) ? 3 : 4.5)) {
      unreadable.add(`${ratio.toFixed(2)}: ${texts.currentNode.data.trim().slice(0, 40)}`);
    }
  }
  return [...unreadable];
}
