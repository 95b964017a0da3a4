// Prometheus's answers as the data frames of Grafana, with a panel's field options applied.
import {
  FieldConfigOptionsRegistry,
  FieldType,
  applyFieldOverrides,
  createDataFrame,
  displayNameOverrideProcessor,
  getValueFormatterIndex,
  identityOverrideProcessor,
  thresholdsOverrideProcessor,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';

// What the editor of Grafana's own panels offers, as far as a dashboard here may use it.
const STANDARD = {
  unit: unitOverrideProcessor,
  displayName: displayNameOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
  mappings: valueMappingsOverrideProcessor,
};
const PLAIN = ['min', 'max', 'decimals', 'noValue', 'color', 'links'];
const CUSTOM = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  lineWidth: 1,
  lineStyle: undefined,
  fillOpacity: 0,
  gradientMode: 'none',
  showPoints: 'auto',
  pointSize: 5,
  spanNulls: false,
  stacking: { mode: 'none', group: 'A' },
  thresholdsStyle: { mode: 'off' },
  axisPlacement: 'auto',
  axisLabel: '',
  axisSoftMin: undefined,
  axisSoftMax: undefined,
  scaleDistribution: { type: 'linear' },
  hideFrom: undefined,
};

const item = (path, process, isCustom = false) => ({
  id: isCustom ? `custom.${path}` : path,
  path,
  name: path,
  isCustom,
  process,
  shouldApply: () => true,
});
const REGISTRY = new FieldConfigOptionsRegistry(() => [
  ...Object.entries(STANDARD).map(([path, process]) => item(path, process)),
  ...PLAIN.map((path) => item(path, identityOverrideProcessor)),
  ...Object.keys(CUSTOM).map((path) => item(path, identityOverrideProcessor, true)),
]);

function check(panel) {
  const { defaults, overrides } = panel.fieldConfig;
  const set = overrides.flatMap((rule) => rule.properties);
  const used = [
    ...Object.keys(defaults).filter((id) => id !== 'custom'),
    ...Object.keys(defaults.custom ?? {}).map((id) => `custom.${id}`),
    ...set.map((property) => property.id),
  ];
  for (const id of used) {
    if (!REGISTRY.getIfExists(id)) {
      throw new Error(`${panel.title}: the field option ${id} is not known here`);
    }
  }
  const units = set.filter((property) => property.id === 'unit').map((property) => property.value);
  const known = getValueFormatterIndex();
  for (const unit of [defaults.unit, ...units]) {
    // `count:` is a unit of one's own, counted in K and Mil.
    if (!known[unit] && !unit.startsWith('count:')) {
      throw new Error(`${panel.title}: Grafana knows no unit ${unit}`);
    }
  }
}

const named = (format, labels) => format.replace(/{{\s*(\w+)\s*}}/g, (_, label) => labels[label] ?? '');

// One frame for each series: `results` has what each target of the panel was answered.
export function framesOf(panel, results, step, theme) {
  check(panel);
  const data = results.flatMap((result, index) => {
    const { refId, legendFormat } = panel.targets[index];
    return result.map(({ metric, values }) =>
      createDataFrame({
        refId,
        fields: [
          {
            name: 'Time',
            type: FieldType.time,
            values: values.map(([moment]) => moment * 1000),
            config: { interval: step * 1000 },
          },
          {
            name: 'Value',
            type: FieldType.number,
            labels: metric,
            // Grafana shows a gap where Prometheus has no number.
            values: values.map(([, value]) => (value === 'NaN' ? null : Number(value))),
            config: { displayNameFromDS: named(legendFormat, metric) },
          },
        ],
      })
    );
  });
  const { defaults, overrides } = panel.fieldConfig;
  const drawn = panel.type === 'timeseries' ? { custom: { ...CUSTOM, ...defaults.custom } } : {};
  return applyFieldOverrides({
    data,
    fieldConfig: { defaults: { ...defaults, ...drawn }, overrides },
    fieldConfigRegistry: REGISTRY,
    replaceVariables: (text) => text,
    theme,
    timeZone: 'utc',
  });
}
