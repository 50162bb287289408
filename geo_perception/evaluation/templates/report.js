'use strict';
(function () {
  const get = id => document.getElementById(id);
  const pages = [...document.querySelectorAll('.page')];
  const tabs = [...document.querySelectorAll('.tabs a')];
  const scrubber = get('scrubber');
  document.documentElement.classList.add('scripted');

  function show() {
    const wanted = location.hash.slice(1);
    const page = pages.find(p => p.id === wanted) || pages[0];
    pages.forEach(p => p.classList.toggle('shown', p === page));
    tabs.forEach(t => t.hash === '#' + page.id ? t.setAttribute('aria-current', 'page')
                                               : t.removeAttribute('aria-current'));
    load(page);
    if (scrubber && page.contains(scrubber)) begin(); else pause();
  }

  // Pictures of other pages wait, so that a long report opens at once.
  function load(part) {
    part.querySelectorAll('img').forEach(image => { image.loading = 'eager'; });
  }

  let moments = null, current = 0, timer = null;

  function begin() {
    if (moments) return;
    moments = JSON.parse(get('moments').textContent);
    get('time').max = moments.length - 1;
    go(0);
  }

  const names = 'http://www.w3.org/2000/svg';
  const looks = {
    odometry_ellipse: {fill: '#2f7d5b40', stroke: '#2f7d5b'},
    fix_ellipse: {fill: '#1f609140', stroke: '#1f6091'},
    truth: {fill: '#1f2933', stroke: '#fff', r: 0.011}, refused: {fill: '#b23a48', r: 0.011},
    odometry: {fill: '#2f7d5b', stroke: '#fff', r: 0.011},
    fix: {fill: '#1f6091', stroke: '#fff', r: 0.011}};

  function draw(moment) {
    const map = get('map');
    if (!map) return;
    const wide = map.viewBox.baseVal.width;
    map.replaceChildren();
    for (const [name, {r, ...look}] of Object.entries(looks)) {
      const at = moment[name];
      if (!at) continue;
      const shape = document.createElementNS(names, r ? 'circle' : 'polygon');
      if (r) {
        shape.setAttribute('cx', at[0] * wide);
        shape.setAttribute('cy', at[1]);
        shape.setAttribute('r', r);
      } else {
        shape.setAttribute('points', at.map(p => p[0] * wide + ',' + p[1]).join(' '));
      }
      shape.setAttribute('class', name);
      shape.setAttribute('stroke-width', 0.003);
      for (const [key, value] of Object.entries(look)) shape.setAttribute(key, value);
      map.append(shape);
    }
  }

  function picture(id, source) {
    const image = get(id);
    if (!image) return;
    image.classList.toggle('none', !source);
    if (source) image.src = source;
  }

  function go(index) {
    if (!moments) return;
    current = Math.max(0, Math.min(moments.length - 1, index));
    const moment = moments[current];
    get('time').value = current;
    get('when').textContent = moment.time_s.toFixed(1) + ' s, ' + moment.name;
    picture('camera-picture', moment.image);
    picture('depth-picture', moment.depth);
    picture('ground-picture', moment.image);
    picture('mask-picture', moment.mask);
    get('cursor').style.left = 100 * moment.strip + '%';
    get('now').replaceChildren(...moment.lines.map(([name, value]) => {
      const row = document.createElement('div');
      for (const [tag, text] of [['dt', name], ['dd', value]]) {
        row.append(Object.assign(document.createElement(tag), {textContent: text}));
      }
      return row;
    }));
    draw(moment);
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    if (get('play')) get('play').textContent = 'Play';
  }

  function play() {
    if (timer) return pause();
    if (current === moments.length - 1) go(0);
    get('play').textContent = 'Pause';
    const every = Math.max(60, Math.min(1000,
      1000 * (moments[moments.length - 1].time_s - moments[0].time_s) / moments.length));
    timer = setInterval(() => current < moments.length - 1 ? go(current + 1) : pause(), every);
  }

  if (scrubber) {
    get('time').addEventListener('input', event => go(Number(event.target.value)));
    get('play').addEventListener('click', play);
    get('strip').addEventListener('click', event => {
      const box = get('strip').getBoundingClientRect();
      const at = (event.clientX - box.left) / box.width;
      let best = 0;
      moments.forEach((m, i) => {
        if (Math.abs(m.strip - at) < Math.abs(moments[best].strip - at)) best = i;
      });
      go(best);
    });
    document.addEventListener('keydown', event => {
      if (!scrubber.closest('.page.shown') || event.ctrlKey || event.altKey || event.metaKey) return;
      const step = event.shiftKey ? 10 : 1;
      const act = {
        ArrowLeft: () => go(current - step), ArrowRight: () => go(current + step),
        Home: () => go(0), End: () => go(moments.length - 1),
        ' ': () => play()}[event.key];
      if (!act || (event.key === ' ' && event.target === get('play'))) return;
      event.preventDefault();
      act();
    });
  }
  // Printing would not wait for them: they follow once the page is there.
  addEventListener('load', () => setTimeout(() => load(document), 300));
  addEventListener('hashchange', () => { show(); scrollTo(0, 0); });
  show();
})();
