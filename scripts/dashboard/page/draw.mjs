// node draw.mjs DASHBOARD ANSWERS PICTURE [dark|light]: draw a dashboard in $CHROMIUM.
import { readFile } from 'node:fs/promises';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const [dashboard, answers, picture, mode = 'dark'] = process.argv.slice(2);
const here = import.meta.dirname;
const icons = `${here}/node_modules/@grafana/ui/dist/public/img/icons`;
const bundle = await build({
  entryPoints: [`${here}/page.jsx`],
  outdir: here,
  bundle: true,
  write: false,
  jsx: 'automatic',
  minify: true,
  loader: { '.ttf': 'empty' },
  define: { 'process.env.NODE_ENV': '"production"' },
});
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--disable-gpu', '--disable-gpu-sandbox', '--disable-quic'],
});
const page = await browser.newPage({ viewport: { width: 1600, height: 900 } });
const failures = [];
page.on('pageerror', (error) => failures.push(error.message));
page.on('console', (message) => message.type() === 'error' && failures.push(message.text()));
// Nothing is asked of a network: the page is ours, and icons come with the components.
await page.route('**/*', async (route) => {
  const icon = new URL(route.request().url()).pathname.split('/img/icons/')[1];
  if (icon) {
    await route.fulfill({ path: `${icons}/${icon}` });
  } else {
    await route.fulfill({ contentType: 'text/html', body: '<!doctype html><body style="margin:0">' });
  }
});
await page.goto('http://dashboard.invalid/');
for (const { path, text } of bundle.outputFiles) {
  await (path.endsWith('.css') ? page.addStyleTag({ content: text }) : page.addScriptTag({ content: text }));
}
const read = async (file) => JSON.parse(await readFile(file, 'utf8'));
await page.evaluate(([...all]) => window.show(...all), [await read(dashboard), await read(answers), mode]);
await page.waitForLoadState('networkidle');
await page.screenshot({ path: picture, fullPage: true });
await browser.close();
if (failures.length) {
  console.error(failures.join('\n'));
  process.exitCode = 1;
}
