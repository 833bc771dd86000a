// Turns CLOUD (16-bit positions: forward, left, up; colours; path) on the canvas #cloud.
(() => {
  'use strict';
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const points = new Uint16Array(bytes(CLOUD.points).buffer);
  const path = new Uint16Array(bytes(CLOUD.path).buffer);
  const colors = bytes(CLOUD.colors);
  const n = points.length / 3;

  const canvas = document.getElementById('cloud');
  const context = canvas.getContext('2d');

  const middle = [0, 1, 2].map((axis) => {
    const values = [];
    for (let i = 0; i < n; i += 7) values.push(points[3 * i + axis]);
    return values.sort((a, b) => a - b)[values.length >> 1];
  });
  let radius = 1;
  for (let i = 0; i < n; i += 7) {
    radius = Math.max(radius, Math.hypot(points[3 * i] - middle[0],
      points[3 * i + 1] - middle[1], points[3 * i + 2] - middle[2]));
  }
  const start = { turn: 0.63, tilt: 0.69, distance: 1.5 * radius, center: [...middle] };
  let view = { ...start, center: [...middle] };
  let image, depth, width, height;

  function resize() {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    width = canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    height = canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    image = context.createImageData(width, height);
    depth = new Float32Array(width * height);
    draw();
  }

  // Camera axes in view coordinates: right, down, forward.
  function axes() {
    const [c, s] = [Math.cos(view.turn), Math.sin(view.turn)];
    const [ct, st] = [Math.cos(view.tilt), Math.sin(view.tilt)];
    return [[s, -c, 0], [-c * st, -s * st, -ct], [c * ct, s * ct, -st]];
  }

  function project(source, i, [right, down, forward], focal) {
    const x = source[3 * i] - view.center[0];
    const y = source[3 * i + 1] - view.center[1];
    const z = source[3 * i + 2] - view.center[2];
    const d = forward[0] * x + forward[1] * y + forward[2] * z + view.distance;
    if (d < 0.02 * radius) return null;
    return [width / 2 + focal * (right[0] * x + right[1] * y + right[2] * z) / d,
      height / 2 + focal * (down[0] * x + down[1] * y + down[2] * z) / d, d];
  }

  function draw() {
    const camera = axes();
    const focal = 0.9 * width;
    const data = image.data;
    for (let i = 0; i < data.length; i += 4) {
      data[i] = 16; data[i + 1] = 19; data[i + 2] = 24; data[i + 3] = 255;
    }
    depth.fill(Infinity);
    for (let i = 0; i < n; i++) {
      const p = project(points, i, camera, focal);
      if (!p) continue;
      const size = Math.min(5, Math.max(2, Math.round(0.004 * focal * radius / p[2])));
      const x0 = Math.round(p[0] - size / 2), y0 = Math.round(p[1] - size / 2);
      for (let y = Math.max(0, y0); y < Math.min(height, y0 + size); y++) {
        for (let x = Math.max(0, x0); x < Math.min(width, x0 + size); x++) {
          const k = y * width + x;
          if (p[2] < depth[k]) {
            depth[k] = p[2];
            data[4 * k] = colors[3 * i];
            data[4 * k + 1] = colors[3 * i + 1];
            data[4 * k + 2] = colors[3 * i + 2];
          }
        }
      }
    }
    context.putImageData(image, 0, 0);
    context.beginPath();
    for (let i = 0, pen = false; i < path.length / 3; i++) {
      const p = project(path, i, camera, focal);
      if (p && pen) context.lineTo(p[0], p[1]);
      else if (p) context.moveTo(p[0], p[1]);
      pen = Boolean(p);
    }
    context.strokeStyle = '#ffb020';
    context.lineWidth = 2;
    context.stroke();
  }

  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function move(dx, dy) {
    const [right, down] = axes();
    const step = view.distance / (0.9 * canvas.clientWidth);
    for (let a = 0; a < 3; a++) view.center[a] -= step * (right[a] * dx + down[a] * dy);
  }

  function zoom(factor) {
    view.distance = Math.min(20 * radius, Math.max(0.05 * radius, view.distance * factor));
  }

  const pointers = new Map();
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  for (const end of ['pointerup', 'pointercancel']) {
    canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener('pointermove', (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const now = [event.clientX, event.clientY];
    const [dx, dy] = [now[0] - last[0], now[1] - last[1]];
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const spread = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      zoom(spread(last) / spread(now));
      move(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons === 2) {
      move(dx, dy);
    } else {
      view.turn -= 0.006 * dx;
      view.tilt = Math.min(1.57, Math.max(-1.57, view.tilt + 0.006 * dy));
    }
    pointers.set(event.pointerId, now);
    redraw();
  });
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    zoom(Math.exp(0.0012 * event.deltaY));
    redraw();
  }, { passive: false });
  canvas.addEventListener('contextmenu', (event) => event.preventDefault());
  canvas.addEventListener('dblclick', () => {
    view = { ...start, center: [...middle] };
    redraw();
  });
  new ResizeObserver(resize).observe(canvas);
})();
