(dot => {
  const panel = dot.closest('.mmer-panel');
  if (!panel || panel.dataset.keys) return;
  panel.dataset.keys = 'yes';
  const tell = () => panel.querySelectorAll('button, select, input').forEach(button => {
    button.setAttribute('data-lm-suppress-shortcuts', 'true');
    if (button.matches('.widget-toggle-button, .widget-toggle-buttons *')) {
      const pressed = String(button.classList.contains('mod-active'));
      if (button.getAttribute('aria-pressed') !== pressed) button.setAttribute('aria-pressed', pressed);
    }
  });
  new MutationObserver(tell).observe(panel, {subtree: true, childList: true, attributeFilter: ['class']});
  tell();
  panel.addEventListener('keydown', event => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    const group = step && event.target.closest('.widget-toggle-buttons, .mmer-group');
    if (!group) return;
    const buttons = [...group.querySelectorAll('.jupyter-button')];
    const next = buttons[(buttons.indexOf(event.target) + step + buttons.length) % buttons.length];
    event.preventDefault();
    event.stopPropagation();
    next.focus();
    if (group.matches('.widget-toggle-buttons')) next.click();
  }, true);
  panel.addEventListener('click', event => {
    const cell = event.target.closest('[data-choose]');
    const wanted = cell ? JSON.parse(cell.dataset.choose) : {};
    panel.querySelectorAll('.widget-dropdown').forEach(box => {
      const name = box.querySelector('label').textContent, select = box.querySelector('select');
      if (!(name in wanted)) return;
      select.selectedIndex = wanted[name];
      select.dispatchEvent(new Event('change', {bubbles: true}));
      select.focus();
    });
  });
})(this)
