// One dashboard, drawn by what Grafana publishes of its front end: PanelChrome, TimeSeries, BigValue, BarGauge, Table.
// The page is told in window.ASKED: { board, prometheus, from, to (milliseconds), dark, run }. When all is drawn it says in
// window.DRAWN what each panel was asked and had: [{ title, type, queries: [{ expr, series }], problems }].
import {
  createTheme, dateTime, dateTimeFormat, getFieldDisplayValues, standardTransformers, standardTransformersRegistry,
  ThemeContext as DataTheme, transformDataFrame, VizOrientation,
} from '@grafana/data'
import { BarGauge, BigValue, GlobalStyles, PanelChrome, ThemeContext, TimeSeries, VizRepeater } from '@grafana/ui'
import { TableNG } from '@grafana/ui/unstable'
import { Component, useLayoutEffect } from 'react'
import { createRoot } from 'react-dom/client'
import { lastValueFrom } from 'rxjs'
import { alerts, answers, configure, variables } from './data.js'
import { Heatmap } from './heatmap.jsx'

const { board, from, to, dark } = window.ASKED
const WIDE = 1600, CELL = 38, GAP = 8, HEAD = 52 // pixels
const SETTLED_MS = 500, PATIENCE_MS = 30_000
const theme = createTheme({ colors: { mode: dark ? 'dark' : 'light' } })
const range = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } }
const plain = (text) => text
standardTransformersRegistry.setInit(() => [
  { id: 'merge', name: 'Merge', transformation: async () => standardTransformers.mergeTransformer },
  { id: 'organize', name: 'Organize', transformation: async () => standardTransformers.organizeFieldsTransformer },
])

function reduced(panel, frames, sparkline) {
  const { reduceOptions } = panel.options
  return getFieldDisplayValues({ data: frames, reduceOptions, fieldConfig: panel.fieldConfig, replaceVariables: plain, theme, timeZone: 'utc', sparkline })
}

const KINDS = {
  stat: ({ panel, frames, width, height }) => (
    <VizRepeater source={frames} getValues={() => reduced(panel, frames, true)} width={width} height={height} orientation={VizOrientation.Auto} renderCounter={0} autoGrid
      renderValue={({ value, width, height }) => (
        <BigValue value={{ ...value.display, title: '' }} sparkline={value.sparkline && { ...value.sparkline, timeRange: range }} width={width} height={height} theme={theme}
          colorMode={panel.options.colorMode} graphMode={panel.options.graphMode} justifyMode="auto" textMode="auto" />)} />
  ),
  bargauge: ({ panel, frames, width, height }) => (
    <VizRepeater source={frames} getValues={() => reduced(panel, frames)} width={width} height={height} orientation={panel.options.orientation} renderCounter={0}
      minVizHeight={16} maxVizHeight={panel.options.maxVizHeight ?? 300} itemSpacing={8}
      renderValue={({ value, width, height, orientation, count }) => (
        <BarGauge value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)} width={width} height={height}
          orientation={orientation} theme={theme} displayMode={panel.options.displayMode ?? 'gradient'} showUnfilled={panel.options.showUnfilled ?? true} valueDisplayMode={panel.options.valueMode} text={panel.options.text} namePlacement={panel.options.namePlacement} itemSpacing={8} isOverflow={count > 20} />)} />
  ),
  timeseries: ({ panel, frames, width, height, marks }) => (
    <TimeSeries frames={frames} structureRev={1} timeRange={range} timeZone="utc" width={width} height={height} theme={theme}
      legend={panel.options.legend} options={panel.options} tweakScale={plain} tweakAxis={plain}>
      {(config) => <Marks config={config} marks={marks} />}
    </TimeSeries>
  ),
  table: ({ panel, frames, width, height }) => (
    <TableNG data={frames[0]} width={width} height={height} sortBy={panel.options.sortBy} fieldConfig={panel.fieldConfig} timeRange={range} cellHeight="sm" enableVirtualization={false} />
  ),
  heatmap: (given) => <Heatmap {...given} range={range} theme={theme} />,
}

// Where alerts fired: a line where it began and one where it ended, and the time between them tinted.
function Marks({ config, marks }) {
  useLayoutEffect(() => {
    config.addHook('draw', ({ ctx, bbox, valToPos }) => {
      ctx.save()
      ctx.fillStyle = ctx.strokeStyle = theme.visualization.getColorByName('red')
      for (const mark of marks) {
        const [left, right] = [mark.from, mark.to].map((at) => valToPos(at, 'x', true))
        ctx.globalAlpha = 0.08
        ctx.fillRect(left, bbox.top, right - left, bbox.height)
        ctx.globalAlpha = 1
        ctx.setLineDash([5, 5])
        ctx.beginPath()
        for (const x of [left, right]) { ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height) }
        ctx.stroke()
        ctx.fillRect(left, bbox.top + bbox.height, Math.max(4, right - left), 4)
      }
      ctx.restore()
    })
  }, [])
  return null
}

// What a panel throws becomes what is said of it.
class Caught extends Component {
  state = {}
  static getDerivedStateFromError(error) { return { error } }
  componentDidCatch(error) { this.props.problems.push(String(error.stack ?? error).slice(0, 500)) }
  render() { return this.state.error ? <pre>{String(this.state.error)}</pre> : this.props.children }
}

function Head({ chosen }) {
  const { text, background, border } = theme.colors
  const box = { padding: '4px 8px', border: `1px solid ${border.weak}`, background: background.primary, borderRadius: 4 }
  const when = [from, to].map((at) => dateTimeFormat(at, { timeZone: 'utc', format: 'HH:mm:ss' })).join(' to ')
  return (
    <div style={{ height: HEAD, display: 'flex', alignItems: 'center', gap: 8, padding: '0 8px', fontSize: 12 }}>
      <span style={{ fontSize: 18, fontWeight: 500 }}>{board.title}</span>
      <span style={{ color: text.secondary, marginRight: 'auto', fontSize: 14 }}>{board.description}</span>
      {Object.values(chosen).map(({ label, shown }) => (
        <span key={label} style={{ ...box, maxWidth: 260, overflow: 'hidden', textOverflow: 'ellipsis', whiteSpace: 'nowrap' }}>
          <span style={{ color: text.secondary }}>{label}</span> {shown}</span>))}
      <span style={box}>{when} UTC</span>
    </div>
  )
}

async function drawn(panel, chosen, marks) {
  const problems = []
  const kind = KINDS[panel.type]
  if (!kind) problems.push(`panels of type ${panel.type} are not drawn here`)
  const queries = await answers(panel, chosen, from, to, theme).catch((error) => { problems.push(String(error)); return [] })
  let frames = queries.flatMap((query) => query.frames)
  if (panel.transformations?.length) {
    frames = await lastValueFrom(transformDataFrame(panel.transformations, frames, { interpolate: plain }))
    configure(frames, panel, theme)
  }
  const finite = frames.some((frame) => frame.fields.some((field) => field.type === 'number' && field.values.some(Number.isFinite)))
  const said = { title: panel.title, type: panel.type, queries: queries.map(({ expr, series }) => ({ expr, series })), problems }
  const { x, y, w, h } = panel.gridPos, cell = WIDE / 24
  const [width, height] = [w * cell - GAP, h * CELL - GAP]
  const Kind = kind ?? (() => null)
  const element = (
    <div key={panel.id} id={`panel-${panel.id}`} style={{ position: 'absolute', left: x * cell + GAP / 2, top: HEAD + y * CELL, width, height }}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
        {(width, height) => <Caught problems={problems}>{finite ? <Kind panel={panel} frames={frames} width={width} height={height} marks={marks} /> : 'No data'}</Caught>}
      </PanelChrome>
    </div>
  )
  return { said, element, id: panel.id, bottom: HEAD + (y + h) * CELL, finite }
}

// Whether a panel shows a plot, or where it is none a number.
function shows({ title, type }, id) {
  const place = document.getElementById(`panel-${id}`)
  if (['timeseries', 'heatmap'].includes(type)) return Boolean(place?.querySelector('canvas'))
  return /\d|On|Off/.test(place?.innerText.replace(title, '') ?? '')
}

async function main() {
  const chosen = await variables(board, from, to)
  const marks = await alerts(board, chosen, from, to)
  const panels = await Promise.all(board.panels.map((panel) => drawn(panel, chosen, marks)))
  document.body.style.background = theme.colors.background.canvas
  const high = Math.max(...panels.map(({ bottom }) => bottom))
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}><DataTheme.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: 'relative', width: WIDE, height: high, fontFamily: theme.typography.fontFamily, color: theme.colors.text.primary, fontSize: 14 }}>
        <Head chosen={chosen} />
        {panels.map(({ element }) => element)}
      </div>
    </DataTheme.Provider></ThemeContext.Provider>)
  await document.fonts.ready
  const until = Date.now() + PATIENCE_MS
  const undrawn = () => panels.some(({ said, id, finite }) => finite && !said.problems.length && !shows(said, id))
  while (undrawn() && Date.now() < until) await new Promise((done) => setTimeout(done, 50))
  setTimeout(() => {
    for (const { said, id, finite } of panels) {
      if (!finite) said.problems.push('no data')
      else if (!shows(said, id)) said.problems.push('nothing was drawn')
    }
    window.DRAWN = { panels: panels.map(({ said }) => said), alerts: [...new Set(marks.map(({ name }) => name))].sort(), high }
  }, SETTLED_MS)
}
main().catch((error) => { window.DRAWN = { failed: String(error.stack ?? error), panels: [], alerts: [], high: 100 } })
