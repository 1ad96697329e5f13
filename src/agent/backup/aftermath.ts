/**
 * What follows a session's end: with a point, the local state and the provider move on to it; otherwise they
 * return to where they were.
 */
import type { Point } from '../../domain/point/point.js';
import { afterFailure } from '../../domain/session/resume.js';
import type { SessionLink } from '../send/session-link.js';
import type { SessionContext } from './context.js';
import { ResumeDoubted } from './findings.js';

/** The point is there, whatever fails now. Does not reject. */
export async function afterCommit(context: SessionContext, point: Point): Promise<void> {
  // None needs another: each waits for a disk of its own.
  await Promise.all([followPoint(context), tellProvider(context), remember(context, point)]);
}

async function followPoint(context: SessionContext): Promise<void> {
  const { state } = context;
  try {
    await state.commit();
    await state.keepSession(null);
  } catch (error) {
    await state.forgetTree().catch(() => undefined);
    context.warn(
      `the local tree could not be updated, so the next backup compares digests: ${(error as Error).message}`,
    );
  }
}

async function remember(context: SessionContext, point: Point): Promise<void> {
  try {
    await context.state.acknowledge(point);
  } catch (error) {
    context.warn(
      `the point could not be recorded here, so a store that loses it would not be noticed: ${(error as Error).message}`,
    );
  }
}

async function tellProvider(context: SessionContext): Promise<void> {
  try {
    await context.view.tracking?.committed();
  } catch (error) {
    // It knows of the session, and goes on from it: more is read next time, no more.
    context.notice(`what knows its changes was not told of the commit: ${(error as Error).message}`);
  }
}

/** Ends at the receiver and here what nobody is to go on with. @returns the error of the session */
export async function afterFailedSession(
  { state, name }: SessionContext,
  link: SessionLink,
  error: unknown,
): Promise<unknown> {
  const { isOver, isForgotten, isDoubted } = afterFailure(error, name.isResumed);
  if (isOver) await link.abort();
  if (isForgotten) await state.keepSession(null).catch(() => undefined);
  return isDoubted ? new ResumeDoubted((error as Error).message) : error;
}
