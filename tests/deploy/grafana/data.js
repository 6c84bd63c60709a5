// What a dashboard asks, answered by Prometheus as Grafana's data source would: variables, steps, rate intervals, frames.
import { FieldType, getDisplayProcessor, toDataFrame } from '@grafana/data'

const SCRAPE_S = 5 // `timeInterval` of deploy/grafana/provisioning/datasources/prometheus.yaml
const EVERY = '$__all'
// What each panel's plugin sets where a dashboard says nothing.
const PLUGIN = {
  timeseries: {
    color: { mode: 'palette-classic' },
    custom: {
      drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none', spanNulls: false,
      showPoints: 'auto', pointSize: 5, axisPlacement: 'auto', axisLabel: '', scaleDistribution: { type: 'linear' },
      hideFrom: { legend: false, tooltip: false, viz: false }, thresholdsStyle: { mode: 'off' },
    },
  },
}
const number = (text) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text))
const escaped = (value) => value.replace(/[\\^$.*+?()[\]{}|]/g, '\\\\$&')

async function ask(path, fields) {
  const answer = await (await fetch(`${window.ASKED.prometheus}/api/v1/${path}?` + new URLSearchParams(fields))).json()
  if (answer.status !== 'success') throw new Error(`${answer.error}: ${fields.query ?? path}`)
  return answer.data
}

// The dashboard's variables in order, each { label, shown, value }; what is chosen is what Grafana chooses at first.
export async function variables(board, from, to) {
  const found = {}
  for (const variable of board.templating.list) {
    if (variable.type === 'datasource') {
      found[variable.name] = { label: variable.label, shown: variable.current.text, value: variable.current.value }
      continue
    }
    const [, series, label] = /^label_values\((.*), (\w+)\)$/.exec(variable.query.query ?? variable.query)
    const asked = { 'match[]': substituted(series, found, 0), start: from / 1000, end: to / 1000 }
    const values = [...new Set((await ask('series', asked)).map((labels) => labels[label]))].sort()
    if (!values.length) throw new Error(`variable ${variable.name}: nothing to choose from`)
    const all = [variable.current?.value].flat().includes(EVERY)
    const wanted = all ? values : [values.includes(window.ASKED.run) ? window.ASKED.run : values[0]]
    const regex = wanted.length > 1 ? `(${wanted.map(escaped).join('|')})` : escaped(wanted[0])
    found[variable.name] = { label: variable.label, shown: all ? 'All' : wanted[0], value: regex }
  }
  return found
}

function substituted(expr, chosen, stepS) {
  const rateS = Math.max(stepS + SCRAPE_S, 4 * SCRAPE_S)
  const named = { __rate_interval: `${rateS}s`, __interval: `${stepS}s` }
  return expr.replace(/\$\{?(\w+)\}?/g, (text, name) => named[name] ?? chosen[name]?.value ?? text)
}

// Each query of a panel with its answer: { refId, expr, frames }, a frame for each series.
export async function answers(panel, chosen, from, to, theme) {
  const stepS = Math.max(SCRAPE_S, Math.ceil((to - from) / 1000 / 600))
  const found = []
  for (const target of panel.targets) {
    const expr = substituted(target.expr, chosen, stepS)
    const place = target.instant ? { time: to / 1000 } : { start: Math.ceil(from / 1000 / stepS) * stepS, end: to / 1000, step: stepS }
    const { result } = await ask(target.instant ? 'query' : 'query_range', { query: expr, ...place })
    const frames = target.format === 'table' ? [table(target, result)] : result.map((s) => series(target, s, place, panel))
    found.push({ refId: target.refId, expr, series: result.length, frames })
  }
  configure(found.flatMap((query) => query.frames), panel, theme)
  return found
}

function series(target, { metric, value, values }, place, panel) {
  const points = new Map((values ?? [value]).map(([at, text]) => [at, number(text)]))
  const moments = []
  for (let at = place.start ?? place.time; at <= (place.end ?? place.time); at += place.step ?? 1) moments.push(at)
  const name = (target.legendFormat || panel.title).replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? '')
  return toDataFrame({
    refId: target.refId, name,
    fields: [
      { name: 'Time', type: FieldType.time, values: moments.map((at) => at * 1000), config: { interval: (place.step ?? 1) * 1000 } },
      { name: 'Value', type: FieldType.number, labels: metric, config: { displayNameFromDS: name },
        values: moments.map((at) => (Number.isFinite(points.get(at)) ? points.get(at) : null)) },
    ],
  })
}

function table(target, result) {
  const labels = [...new Set(result.flatMap((s) => Object.keys(s.metric)))].sort()
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: result.map((s) => s.value[0] * 1000) },
      ...labels.map((name) => ({ name, type: FieldType.string, values: result.map((s) => s.metric[name] ?? '') })),
      { name: `Value #${target.refId}`, type: FieldType.number, values: result.map((s) => number(s.value[1])) },
    ],
  })
}

// Options of the panel and its overrides into each field, and the functions that turn values into text and colour.
export function configure(frames, panel, theme) {
  const numbers = frames.flatMap(({ fields }) => fields.filter(({ type }) => type === FieldType.number).flatMap(({ values }) => [...values]))
  const [least, most] = [Math.min, Math.max].map((of) => of(...numbers.filter(Number.isFinite)))
  frames.forEach((frame, index) => frame.fields.forEach((field) => {
    const name = field.config.displayName ?? field.config.displayNameFromDS ?? field.name
    field.config = { ...field.config, ...options(field, name, panel), links: undefined }
    const [min, max] = [field.config.min ?? least, field.config.max ?? most]
    field.state = { ...field.state, seriesIndex: index, displayName: name, range: { min, max, delta: max - min } }
    field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' })
  }))
}

function options(field, name, panel) {
  const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {}
  const plugin = PLUGIN[panel.type] ?? { color: { mode: 'thresholds' } }
  const found = { ...plugin, ...structuredClone(defaults), custom: { ...plugin.custom, ...defaults.custom } }
  for (const { matcher, properties } of overrides)
    if (matcher.id === 'byName' && matcher.options === name) for (const { id, value } of properties) found[id] = value
  found.thresholds?.steps?.forEach((step) => (step.value ??= -Infinity))
  return field.type === FieldType.number ? found : { custom: found.custom }
}

// From when to when each alert fired, as the dashboard's annotation asks.
export async function alerts(board, chosen, from, to) {
  const marks = []
  for (const { expr } of board.annotations.list) {
    const place = { start: from / 1000, end: to / 1000, step: SCRAPE_S }
    const { result } = await ask('query_range', { query: substituted(expr, chosen, SCRAPE_S), ...place })
    for (const { metric, values } of result)
      marks.push({ name: metric.alertname, from: values[0][0] * 1000, to: values.at(-1)[0] * 1000 })
  }
  return marks
}
