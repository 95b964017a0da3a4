// A dashboard on Grafana's grid, each panel drawn by Grafana's components.
import {
  VizOrientation,
  createTheme,
  dateTime,
  getDisplayValueAlignmentFactors,
  getFieldDisplayName,
  getFieldDisplayValues,
} from '@grafana/data';
import {
  BigValue,
  GlobalStyles,
  Icon,
  InlineLabel,
  PanelChrome,
  Stack,
  Text,
  ThemeContext,
  TimeSeries,
  ToolbarButton,
  VizRepeater,
  preparePlotFrame,
} from '@grafana/ui';
import { createRoot } from 'react-dom/client';

import { framesOf } from './fields.js';

// The grid of Grafana's dashboards, in pixels.
const COLUMNS = 24;
const CELL = 30;
const GAP = 8;

// Joining drops the names, of which the colours of lines are made; those of legends have them.
function joined(frames, fields, range) {
  const frame = preparePlotFrame(frames, fields, range);
  for (const { state } of frame.fields.filter((field) => field.state?.origin)) {
    const origin = frames[state.origin.frameIndex];
    state.displayName = getFieldDisplayName(origin.fields[state.origin.fieldIndex], origin, frames);
  }
  return frame;
}

function Series({ panel, frames, range, width, height }) {
  return (
    <TimeSeries
      frames={frames}
      timeRange={range}
      timeZone="utc"
      width={width}
      height={height}
      preparePlotFrame={joined}
      legend={{ calcs: [], ...panel.options.legend }}
      options={panel.options}
    />
  );
}

function Stat({ panel, frames, width, height, theme }) {
  const { options, fieldConfig } = panel;
  const values = () =>
    getFieldDisplayValues({
      data: frames,
      fieldConfig,
      reduceOptions: options.reduceOptions,
      replaceVariables: (text) => text,
      sparkline: options.graphMode !== 'none',
      theme,
      timeZone: 'utc',
    });
  return (
    <VizRepeater
      getValues={values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, alignmentFactors, width, height, count }) => (
        <BigValue
          {...{ value: value.display, sparkline: value.sparkline, width, height, count, theme }}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
          alignmentFactors={alignmentFactors}
        />
      )}
      source={frames}
      width={width}
      height={height}
      itemSpacing={3}
      autoGrid
      orientation={VizOrientation.Auto}
      renderCounter={0}
    />
  );
}

const KINDS = { timeseries: Series, stat: Stat };

function Panel({ panel, answers, range, theme, ...size }) {
  if (panel.type === 'row') {
    return (
      <Stack alignItems="center" height="100%">
        <Icon name="angle-down" />
        <Text element="h3" variant="h5">{panel.title}</Text>
      </Stack>
    );
  }
  const Kind = KINDS[panel.type];
  if (!Kind) {
    throw new Error(`${panel.title}: no way to draw a ${panel.type}`);
  }
  const frames = framesOf(panel, answers.panels[panel.id], answers.step, theme);
  return (
    <PanelChrome title={panel.title} description={panel.description} {...size}>
      {(width, height) => <Kind {...{ panel, frames, range, theme, width, height }} />}
    </PanelChrome>
  );
}

function Toolbar({ dashboard, answers, range }) {
  const shown = (moment) => moment.utc().format('HH:mm:ss');
  return (
    <Stack alignItems="center" gap={2}>
      <Text element="h1" variant="h4">{dashboard.title}</Text>
      {dashboard.templating.list.map(({ name, label }) => (
        <Stack key={name} gap={0}>
          <InlineLabel width="auto">{label}</InlineLabel>
          <ToolbarButton variant="canvas" isOpen={false}>{answers.variables[name]}</ToolbarButton>
        </Stack>
      ))}
      <div style={{ flexGrow: 1 }} />
      <ToolbarButton variant="canvas" icon="clock-nine" isOpen={false}>
        {`${shown(range.from)} to ${shown(range.to)}`}
      </ToolbarButton>
    </Stack>
  );
}

function Dashboard({ dashboard, answers, theme, width }) {
  const from = dateTime(answers.from * 1000);
  const to = dateTime(answers.to * 1000);
  const range = { from, to, raw: { from, to } };
  const column = (width - GAP * (COLUMNS - 1)) / COLUMNS;
  const rows = Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ padding: 2 * GAP }}>
        <Toolbar {...{ dashboard, answers, range }} />
        <div style={{ position: 'relative', marginTop: 2 * GAP, height: rows * (CELL + GAP) - GAP }}>
          {dashboard.panels.map((panel) => {
            const { x, y, w, h } = panel.gridPos;
            const width = w * (column + GAP) - GAP;
            const height = h * (CELL + GAP) - GAP;
            const place = { position: 'absolute', left: x * (column + GAP), top: y * (CELL + GAP) };
            return (
              <div key={panel.id} style={{ ...place, width, height }}>
                <Panel {...{ panel, answers, range, theme, width, height }} />
              </div>
            );
          })}
        </div>
      </div>
    </ThemeContext.Provider>
  );
}

window.show = (dashboard, answers, mode) => {
  const theme = createTheme({ colors: { mode } });
  const width = document.documentElement.clientWidth - 4 * GAP;
  const root = createRoot(document.body.appendChild(document.createElement('div')));
  root.render(<Dashboard {...{ dashboard, answers, theme, width }} />);
};
