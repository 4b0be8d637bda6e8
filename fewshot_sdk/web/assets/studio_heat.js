// Lays a heat map over its picture, as images/overlays.py does.
const FOR = [214, 39, 24], AGAINST = [25, 90, 210], STRENGTH = 0.75, SIDE = 640;

/**
 * Paints a map, as of the core's `classify`, on a canvas that lies over a picture of [width, height]; the strongest cell
 * has the strongest colour.
 */
export function paintHeat(canvas, { data, height, width, box }, size) {
  const scale = SIDE / Math.max(...size);
  Object.assign(canvas, { width: Math.round(size[0] * scale), height: Math.round(size[1] * scale) });
  const most = Math.max(...data.map(Math.abs)) || 1;
  const cells = new ImageData(width, height);
  data.forEach((value, i) => {
    const strength = value / most;
    cells.data.set([...(strength > 0 ? FOR : AGAINST), 255 * STRENGTH * Math.abs(strength)], 4 * i);
  });
  const small = Object.assign(document.createElement("canvas"), { width, height });
  small.getContext("2d").putImageData(cells, 0, 0);
  const context = canvas.getContext("2d");
  Object.assign(context, { imageSmoothingEnabled: true, imageSmoothingQuality: "high" });
  context.drawImage(small, box.left * canvas.width, box.top * canvas.height, box.width * canvas.width, box.height * canvas.height);
}
